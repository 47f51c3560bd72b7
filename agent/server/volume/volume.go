// Package volume lists nodes' volumes, and has nodes make and remove them. What exists is the nodes' own truth: a node says it
// when it registers, so a new volume is one when its node's row has it, and one that is to go has gone from the row first.
package volume

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"strings"
	"time"

	"cube/api"
	"cube/fsm"
)

// announceWait is how long a node may take to register what has become of its volumes. It does so at once; what takes longer
// is a node that has lost its servers, which stays connected for less.
const announceWait = 10 * time.Second

// Cluster is what is asked of the server.
type Cluster struct {
	Snapshot func() *fsm.Snapshot
	Watch    func(fsm.WatchKey) <-chan struct{} // closed at the next change
	Worker   func(node string) (api.Worker, error)
	// Allocations returns a node's allocations that have not ended.
	Allocations func(s *fsm.Snapshot, node string) []*api.Allocation
}

// List returns the volumes of all nodes whose names begin with prefix, by name and node.
func (c *Cluster) List(s *fsm.Snapshot, prefix string) []*api.VolumeView {
	out := []*api.VolumeView{}
	for n := range s.Nodes() {
		for v := range c.of(s, n) {
			if strings.HasPrefix(v.Name, prefix) {
				out = append(out, v)
			}
		}
	}
	slices.SortFunc(out, func(a, b *api.VolumeView) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.NodeName, b.NodeName), cmp.Compare(a.NodeID, b.NodeID))
	})
	return out
}

// of yields a node's volumes with who holds them, and those that it does not offer any more and that are held.
func (c *Cluster) of(s *fsm.Snapshot, n *api.Node) iter.Seq[*api.VolumeView] {
	return func(yield func(*api.VolumeView) bool) {
		views := make([]*api.VolumeView, 0, len(n.Volumes))
		at := map[string]*api.VolumeView{}
		add := func(v api.NodeVolume, gone bool) {
			at[v.Name] = &api.VolumeView{NodeVolume: v, NodeID: n.ID, NodeName: n.Name, NodeStatus: n.Status, Gone: gone}
			views = append(views, at[v.Name])
		}
		for _, v := range n.Volumes {
			add(v, false)
		}
		for _, a := range c.Allocations(s, n.ID) {
			for _, r := range a.Volumes {
				if at[r.Source] == nil {
					add(api.NodeVolume{Name: r.Source}, true)
				}
				v := at[r.Source]
				v.Hold.Add(r.Access)
				v.Claims = append(v.Claims, api.VolumeClaim{Allocation: a.ID, Name: a.Name, Job: a.Job, Access: r.Access, Phase: a.Phase, Desired: a.Desired})
			}
		}
		for _, v := range views {
			slices.SortFunc(v.Claims, func(a, b api.VolumeClaim) int {
				return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Allocation, b.Allocation))
			})
			if !yield(v) {
				return
			}
		}
	}
}

// one returns a node's volume of that name, nil if it has none.
func (c *Cluster) one(s *fsm.Snapshot, node, name string) *api.VolumeView {
	if n := s.Node(node); n != nil {
		for v := range c.of(s, n) {
			if v.Name == name {
				return v
			}
		}
	}
	return nil
}

// Create has a node make a volume, and returns when the node offers it. The order has been checked.
func (c *Cluster) Create(ctx context.Context, n *api.Node, o api.VolumeOrder, w api.WriteMeta) (*api.VolumeView, error) {
	worker, err := c.reach(n, "volume "+o.Name+" is not made")
	if err != nil {
		return nil, err
	}
	done, err := worker.Volume(ctx, api.VolumeChange{Step: api.VolumeMake, Name: o.Name, Access: o.Access, By: w.Who, Request: w.RequestID})
	if err != nil {
		return nil, on(n, err)
	}
	there := func(s *fsm.Snapshot) bool {
		v := c.one(s, n.ID, o.Name)
		return v != nil && !v.Gone
	}
	if err := c.await(ctx, n.ID, there); err != nil {
		return nil, api.Errorf(api.CodeUnknown, "node %s has made volume %s and has not said so to the leader yet: see cube volume list (%w)", n.Name, o.Name, err)
	}
	v := c.one(c.Snapshot(), n.ID, o.Name)
	if v == nil {
		return nil, api.Errorf(api.CodeConflict, "volume %s was made on node %s, and is gone again", o.Name, n.Name)
	}
	v.Kept = done.Kept
	return v, nil
}

// Find returns the one volume that a removal means.
func (c *Cluster) Find(s *fsm.Snapshot, name string, node *api.Node) (*api.VolumeView, error) {
	found := slices.DeleteFunc(c.List(s, name), func(v *api.VolumeView) bool {
		return v.Name != name || v.Gone || node != nil && v.NodeID != node.ID
	})
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		var on []string
		for _, v := range found[:min(len(found), 5)] {
			on = append(on, v.NodeName)
		}
		return nil, api.Errorf(api.CodeAmbiguous, "%d nodes have a volume %s, such as %s: say which with -node", len(found), name, strings.Join(on, ", "))
	case node != nil:
		return nil, api.Errorf(api.CodeNotFound, "node %s has no volume %.80q", node.Name, name)
	}
	return nil, api.Errorf(api.CodeNotFound, "no node has a volume %.80q", name)
}

// Delete has a node forget a volume. It is withdrawn first: once the node's row lacks it nothing can be placed for it any more, so
// whoever does not hold it in that state never will. Then it is removed, or offered again.
func (c *Cluster) Delete(ctx context.Context, v *api.VolumeView, data bool) (*api.VolumeView, error) {
	n := c.Snapshot().Node(v.NodeID)
	switch {
	case n == nil:
		return nil, api.Errorf(api.CodeNotFound, "node %s is gone", v.NodeName)
	case v.Made == nil:
		return nil, api.Errorf(api.CodeConflict, "volume %s is named in the configuration of node %s: remove it there", v.Name, n.Name)
	case len(v.Claims) > 0:
		return nil, held(v)
	}
	worker, err := c.reach(n, "volume "+v.Name+" stays")
	if err != nil {
		return nil, err
	}
	change := api.VolumeChange{Step: api.VolumeWithdraw, Name: v.Name, Data: data}
	if _, err := worker.Volume(ctx, change); err != nil {
		return nil, on(n, err)
	}
	withdrawn := func(s *fsm.Snapshot) bool {
		now := c.one(s, n.ID, v.Name)
		return now == nil || now.Gone
	}
	err = c.await(ctx, n.ID, withdrawn)
	if err != nil {
		err = api.Errorf(api.CodeUnavailable, "node %s does not tell the leader that it has withdrawn volume %s, which stays: %w", n.Name, v.Name, err)
	} else if now := c.one(c.Snapshot(), n.ID, v.Name); now != nil {
		err = held(now)
	}
	if err != nil {
		change.Step = api.VolumeOffer
		if _, again := worker.Volume(context.WithoutCancel(ctx), change); again != nil {
			return nil, api.Errorf(api.CodeOf(err), "%w (it is offered again in half a minute: %w)", err, again)
		}
		return nil, err
	}
	change.Step = api.VolumeRemove
	done, err := worker.Volume(ctx, change)
	if err != nil {
		return nil, on(n, err)
	}
	gone := *v
	gone.Kept = done.Kept
	return &gone, nil
}

func held(v *api.VolumeView) error {
	by := v.Hold.String()
	if len(v.Claims) > 0 {
		by = v.Claims[0].Name
		if more := len(v.Claims) - 1; more > 0 {
			by += " and others"
		}
	}
	return api.Errorf(api.CodeConflict, "volume %s on node %s is held by %s: stop it first", v.Name, v.NodeName, by)
}

// reach returns the way to a node that is to change its volumes. so says what comes of it that there is none.
func (c *Cluster) reach(n *api.Node, so string) (api.Worker, error) {
	if n.Status != api.NodeReady {
		return nil, api.Errorf(api.CodeUnavailable, "node %s is %s: %s", n.Name, n.Status, so)
	}
	worker, err := c.Worker(n.ID)
	switch {
	case api.CodeOf(err) == api.CodeUnavailable:
		return nil, api.Errorf(api.CodeUnavailable, "node %s is not connected: %s", n.Name, so)
	case err != nil:
		return nil, err
	}
	return worker, nil
}

// on says of which node an answer is.
func on(n *api.Node, err error) error { return api.Errorf(api.CodeOf(err), "node %s: %w", n.Name, err) }

// await returns when a node's row is as wanted.
func (c *Cluster) await(ctx context.Context, node string, wanted func(*fsm.Snapshot) bool) error {
	ctx, cancel := context.WithTimeout(ctx, announceWait)
	defer cancel()
	for {
		changed := c.Watch(fsm.WatchKey{Table: fsm.TableNodes, Key: node})
		if wanted(c.Snapshot()) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
