package server

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"cube/agent/server/balancer"
	"cube/agent/server/drain"
	"cube/agent/server/usage"
	"cube/agent/server/volume"
	"cube/api"
	"cube/fsm"
	"cube/fsm/balance"
	"cube/scheduler"
)

// ListNodes implements api.Nodes.
func (s *Server) ListNodes(ctx context.Context, q api.Query) ([]*api.NodeView, api.ReadMeta, error) {
	return read(ctx, s, q, lookup[[]*api.NodeView]{
		keys: always(fsm.WatchKey{Table: fsm.TableNodes}),
		get: func(snapshot *fsm.Snapshot) ([]*api.NodeView, error) {
			out := []*api.NodeView{}
			for n := range snapshot.Nodes() {
				if strings.HasPrefix(n.ID, q.Prefix) || strings.HasPrefix(n.Name, q.Prefix) {
					out = append(out, s.nodeView(snapshot, n))
				}
			}
			return out, nil
		},
	})
}

// nodeView adds what the leader knows beside the state. On other servers these parts are empty.
func (s *Server) nodeView(snapshot *fsm.Snapshot, n *api.Node) *api.NodeView {
	v := &api.NodeView{Node: *n}
	v.Held, v.Allocations, v.Running = snapshot.NodeHeld(n.ID)
	v.DeviceUse = snapshot.NodeDevices(n.ID)
	if len(n.Volumes) > 0 {
		v.VolumeUse = snapshot.NodeVolumes(n.ID)
	}
	if t := s.tenure.Load(); t != nil {
		c := t.directory.Contact(n.ID, time.Now())
		v.Load, v.LastContact, v.Connected = t.directory.Load(n.ID), c.Heard, c.Connected
	}
	return v
}

// findNode resolves an ID, a unique prefix of one, or a name that only one node has.
func findNode(snapshot *fsm.Snapshot, id string) (*api.Node, error) {
	if n := snapshot.Node(id); n != nil {
		return n, nil
	}
	var found []*api.Node
	if id != "" {
		found = snapshot.FindNodes(id)
	}
	if len(found) == 0 {
		for n := range snapshot.Nodes() {
			if n.Name == id {
				found = append(found, n)
			}
		}
	}
	if len(found) == 0 {
		return nil, api.Errorf(api.CodeNotFound, "no node is called %.40q, nor has an ID that begins so", id)
	}
	return resolve("node", id, found, func(n *api.Node) string { return n.ID })
}

// nodeKeys are the keys of a read about one node.
func nodeKeys(id string, table fsm.Table) func(*fsm.Snapshot) ([]fsm.WatchKey, error) {
	return func(snapshot *fsm.Snapshot) ([]fsm.WatchKey, error) {
		n, err := findNode(snapshot, id)
		if err != nil {
			return nil, err
		}
		return []fsm.WatchKey{{Table: table, Key: n.ID}}, nil
	}
}

// Node implements api.Nodes. A node may also be called by a name that only it has.
func (s *Server) Node(ctx context.Context, id string, q api.Query) (*api.NodeView, api.ReadMeta, error) {
	return read(ctx, s, q, lookup[*api.NodeView]{
		keys: nodeKeys(id, fsm.TableNodes),
		get: func(snapshot *fsm.Snapshot) (*api.NodeView, error) {
			n, err := findNode(snapshot, id)
			if err != nil {
				return nil, err
			}
			return s.nodeView(snapshot, n), nil
		},
	})
}

// NodeAllocations implements api.Nodes.
func (s *Server) NodeAllocations(ctx context.Context, id string, q api.Query) ([]*api.Allocation, api.ReadMeta, error) {
	return read(ctx, s, q, lookup[[]*api.Allocation]{
		keys: nodeKeys(id, fsm.TableNodeAllocations),
		get: func(snapshot *fsm.Snapshot) ([]*api.Allocation, error) {
			n, err := findNode(snapshot, id)
			if err != nil {
				return nil, err
			}
			return allocations(snapshot, snapshot.NodeRows(n.ID, 0)), nil
		},
	})
}

// SetNodeEligibility implements api.Nodes.
func (s *Server) SetNodeEligibility(_ context.Context, id string, r api.EligibilityRequest, w api.WriteMeta) (*api.NodeView, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	return s.writeNode(id, w, "eligibility", func(node string) fsm.Body {
		return &fsm.SetEligibility{Node: node, Ineligible: !r.Eligible, Dated: true, Reason: r.Reason}
	})
}

// writeNode commits a person's write about one node and returns the node as it is then.
func (s *Server) writeNode(id string, w api.WriteMeta, why string, body func(node string) fsm.Body) (*api.NodeView, error) {
	if err := s.writable(w); err != nil {
		return nil, err
	}
	n, err := findNode(s.machine.Snapshot(), id)
	if err != nil {
		return nil, err
	}
	if _, err := s.door.apply(body(n.ID), person(w, why)); err != nil {
		return nil, err
	}
	snapshot := s.machine.Snapshot()
	if n = snapshot.Node(n.ID); n == nil {
		return nil, api.Errorf(api.CodeNotFound, "node %s is gone", id)
	}
	return s.nodeView(snapshot, n), nil
}

// Usage implements api.Measures. Nodes are asked over their sessions; nothing of it is kept.
func (s *Server) Usage(ctx context.Context, q api.UsageQuery) (*api.UsageReport, error) {
	snapshot := s.machine.Snapshot()
	ask := usage.NewQuestion(snapshot.Text())
	for _, job := range q.Jobs {
		if snapshot.Job(job) == nil {
			return nil, api.Errorf(api.CodeNotFound, "there is no job %q", job)
		}
		ask.Add(snapshot.JobRows(job))
	}
	for _, id := range q.Nodes {
		n, err := findNode(snapshot, id)
		if err != nil {
			return nil, err
		}
		ask.Add(snapshot.NodeRows(n.ID, 0))
	}
	for _, id := range q.Allocations {
		key, err := findAllocation(snapshot, id)
		if err != nil {
			return nil, err
		}
		if row, ok := snapshot.Row(key); ok {
			ask.Add(slices.Values([]api.AllocationRow{row}))
		}
	}
	return ask.Gather(ctx, func(id string) (name string, w api.Worker, err error) {
		if n := snapshot.Node(id); n != nil {
			name = n.Name
		}
		w, err = s.workerOf(id)
		return name, w, err
	}), nil
}

// DrainNode implements api.Drains.
func (s *Server) DrainNode(_ context.Context, id string, r api.DrainRequest, w api.WriteMeta) (*api.NodeView, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	return s.writeNode(id, w, api.CauseDrain, func(node string) fsm.Body { return &fsm.DrainNode{Node: node, Begin: &r} })
}

// CancelDrain implements api.Drains.
func (s *Server) CancelDrain(_ context.Context, id string, r api.CancelDrainRequest, w api.WriteMeta) (*api.NodeView, error) {
	return s.writeNode(id, w, api.CauseDrain, func(node string) fsm.Body { return &fsm.DrainNode{Node: node, Cancel: &r} })
}

// NodeDrain implements api.Drains.
func (s *Server) NodeDrain(ctx context.Context, id string, q api.Query) (*api.DrainStatus, api.ReadMeta, error) {
	return read(ctx, s, q, lookup[*api.DrainStatus]{
		keys: func(snapshot *fsm.Snapshot) ([]fsm.WatchKey, error) {
			n, err := findNode(snapshot, id)
			if err != nil {
				return nil, err
			}
			keys := []fsm.WatchKey{{Table: fsm.TableNodes, Key: n.ID}}
			if n.Drain.Active() { // what an instance waits for is said in evaluations, and happens on other nodes
				keys = append(keys, fsm.WatchKey{Table: fsm.TableEvaluations}, fsm.WatchKey{Table: fsm.TableAllocations})
			}
			return keys, nil
		},
		get: func(snapshot *fsm.Snapshot) (*api.DrainStatus, error) {
			n, err := findNode(snapshot, id)
			if err != nil {
				return nil, err
			}
			return drain.Status(snapshot, n), nil
		},
	})
}

// volumes is what package volume asks of this server.
func (s *Server) volumes() *volume.Cluster {
	return &volume.Cluster{
		Snapshot: s.machine.Snapshot, Watch: s.machine.Watch, Worker: s.workerOf,
		Allocations: func(snapshot *fsm.Snapshot, node string) []*api.Allocation {
			if len(snapshot.NodeVolumes(node)) == 0 {
				return nil
			}
			return slices.DeleteFunc(allocations(snapshot, snapshot.NodeRows(node, 0)), func(a *api.Allocation) bool { return a.Phase.Terminal() })
		},
	}
}

// ListVolumes implements api.Volumes.
func (s *Server) ListVolumes(ctx context.Context, q api.Query) ([]*api.VolumeView, api.ReadMeta, error) {
	return read(ctx, s, q, lookup[[]*api.VolumeView]{
		keys: always(fsm.WatchKey{Table: fsm.TableNodes}, fsm.WatchKey{Table: fsm.TableAllocations}),
		get: func(snapshot *fsm.Snapshot) ([]*api.VolumeView, error) {
			return s.volumes().List(snapshot, q.Prefix), nil
		},
	})
}

// CreateVolume implements api.Volumes.
func (s *Server) CreateVolume(ctx context.Context, o api.VolumeOrder, w api.WriteMeta) (*api.VolumeView, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	if err := s.writable(w); err != nil {
		return nil, err
	}
	n, err := findNode(s.machine.Snapshot(), o.Node)
	if err != nil {
		return nil, err
	}
	return s.volumes().Create(ctx, n, o, w)
}

// DeleteVolume implements api.Volumes.
func (s *Server) DeleteVolume(ctx context.Context, name string, r api.VolumeRemoval, w api.WriteMeta) (*api.VolumeView, error) {
	if err := s.writable(w); err != nil {
		return nil, err
	}
	snapshot, node := s.machine.Snapshot(), (*api.Node)(nil)
	if r.Node != "" {
		var err error
		if node, err = findNode(snapshot, r.Node); err != nil {
			return nil, err
		}
	}
	v, err := s.volumes().Find(snapshot, name, node)
	if err != nil {
		return nil, err
	}
	return s.volumes().Delete(ctx, v, r.Data)
}

// writable checks that a person's write is one that this server may do.
func (s *Server) writable(w api.WriteMeta) error {
	if _, err := s.leading(); err != nil {
		return err
	}
	return checkWrite(w)
}

// PlanRebalance implements api.Rebalances.
func (s *Server) PlanRebalance(ctx context.Context, r api.RebalanceRequest) (*api.RebalancePlan, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	return foresee(ctx, s, func(snapshot *fsm.Snapshot, o scheduler.Options) (*api.RebalancePlan, error) {
		p, _ := balancer.Plan(snapshot, r.Budget, o)
		return p, nil
	})
}

// BeginRebalance implements api.Rebalances.
func (s *Server) BeginRebalance(ctx context.Context, r api.RebalanceRequest, w api.WriteMeta) (*api.RebalanceStatus, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	if err := checkWrite(w); err != nil {
		return nil, err
	}
	moves, err := foresee(ctx, s, func(snapshot *fsm.Snapshot, o scheduler.Options) ([]api.Move, error) {
		_, moves := balancer.Plan(snapshot, r.Budget, o)
		return moves, nil
	})
	switch {
	case err != nil:
		return nil, err
	case len(moves) == 0 && s.machine.Snapshot().Rebalancing() == nil:
		return &api.RebalanceStatus{Moves: []api.MoveView{}}, nil
	}
	return s.writeRebalance(&fsm.Rebalance{Begin: &balance.Order{Budget: r.Budget, Moves: moves}}, w)
}

// CancelRebalance implements api.Rebalances.
func (s *Server) CancelRebalance(_ context.Context, w api.WriteMeta) (*api.RebalanceStatus, error) {
	return s.writeRebalance(&fsm.Rebalance{Cancel: true}, w)
}

func (s *Server) writeRebalance(b *fsm.Rebalance, w api.WriteMeta) (*api.RebalanceStatus, error) {
	if err := s.writable(w); err != nil {
		return nil, err
	}
	if _, err := s.door.apply(b, person(w, api.CauseRebalance)); err != nil {
		return nil, err
	}
	return balancer.Status(s.machine.Snapshot()), nil
}

// Rebalance implements api.Rebalances.
func (s *Server) Rebalance(ctx context.Context, q api.Query) (*api.RebalanceStatus, api.ReadMeta, error) {
	return read(ctx, s, q, lookup[*api.RebalanceStatus]{
		keys: func(snapshot *fsm.Snapshot) ([]fsm.WatchKey, error) {
			keys := []fsm.WatchKey{{Table: fsm.TableRebalance}}
			if snapshot.Rebalancing() != nil { // what an instance waits for happens to its successor
				keys = append(keys, fsm.WatchKey{Table: fsm.TableAllocations})
			}
			return keys, nil
		},
		get: func(snapshot *fsm.Snapshot) (*api.RebalanceStatus, error) { return balancer.Status(snapshot), nil },
	})
}

// NodeTransport reaches a node over its session with this server; ok is false when it has none here, or only that of a
// life which the state does not know (yet).
func (s *Server) NodeTransport(nodeID string) (rt http.RoundTripper, ok bool) {
	n := s.machine.Snapshot().Node(nodeID)
	if n == nil {
		return nil, false
	}
	return s.registry.Transport(nodeID, n.Incarnation)
}

// SessionServer returns the server that holds a node's session. ok is false when none does as far as this server knows:
// only the leader knows of sessions elsewhere.
func (s *Server) SessionServer(nodeID string) (serverID string, ok bool) {
	if _, here := s.NodeTransport(nodeID); here {
		return s.cfg.ID, true
	}
	n, t := s.machine.Snapshot().Node(nodeID), s.tenure.Load()
	if n == nil || t == nil {
		return "", false
	}
	holder := t.directory.Holder(nodeID, n.Incarnation, time.Now())
	return holder, holder != "" && holder != s.cfg.ID
}

// workerOf returns the node behind its session, wherever that is.
func (s *Server) workerOf(nodeID string) (api.Worker, error) {
	if rt, ok := s.NodeTransport(nodeID); ok {
		return s.cfg.NewWorker(rt), nil
	}
	if holder, ok := s.SessionServer(nodeID); ok {
		return s.cfg.NewWorker(relay{s.Transport(holder), nodeID}), nil
	}
	if _, err := s.leading(); err != nil {
		return nil, err
	}
	name := nodeID
	if n := s.machine.Snapshot().Node(nodeID); n != nil {
		name = n.Name
	}
	return nil, api.Errorf(api.CodeUnavailable, "node %s is not connected: what only it knows cannot be read until it is back", name)
}

// Events implements api.Events.
func (s *Server) Events(ctx context.Context, r api.EventRequest, take func(api.EventBatch) error) error {
	if r.Node != "" {
		n, err := findNode(s.machine.Snapshot(), r.Node)
		if err != nil {
			return err
		}
		r.Node = n.ID
	}
	return s.journal.Events(ctx, r, take)
}
