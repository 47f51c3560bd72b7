package fsm

import (
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/tidwall/btree"

	"cube/api"
	"cube/fsm/drain"
)

// claim is what an allocation holds of one device, in the order of its placement. It stays as long as the allocation's
// row; the device has its share back when the allocation has ended.
type claim struct {
	owner  api.ID
	kind   uint32 // handle of the type
	device uint32 // handle of the ID
	place  uint16
	share  int16 // thousandths
}

func newClaims() *btree.BTreeG[claim] {
	return newTree(func(a, b claim) bool { return a.owner < b.owner || a.owner == b.owner && a.place < b.place })
}

func (t *tables) claimsOf(owner api.ID) []claim {
	var out []claim
	t.claims.Ascend(claim{owner: owner}, func(c claim) bool {
		if c.owner != owner {
			return false
		}
		out = append(out, c)
		return true
	})
	return out
}

// deviceUse is what is held of one device of a node.
type deviceUse struct {
	id   uint32 // handle
	held int16  // thousandths
}

// fitDevices brings the row's devices in line with what its node announces: one entry for each, in the order of the
// groups and their IDs, then those that it does not have (any more) as long as something is held of them. A device that
// goes and comes again, be it in another group, finds what is still held of it.
func (s *state) fitDevices(n *nodeRow) {
	before := n.devices
	n.devices = nil
	for g := range n.node.Devices {
		for _, id := range n.node.Devices[g].IDs {
			handle := s.intern(id)
			n.devices = append(n.devices, deviceUse{handle, heldOf(before, handle)})
		}
	}
	for _, d := range before {
		if d.held > 0 && placeOf(n.devices, d.id) < 0 {
			n.devices = append(n.devices, d)
		}
	}
}

func placeOf(devices []deviceUse, id uint32) int {
	return slices.IndexFunc(devices, func(d deviceUse) bool { return d.id == id })
}

func heldOf(devices []deviceUse, id uint32) int16 {
	if i := placeOf(devices, id); i >= 0 {
		return devices[i].held
	}
	return 0
}

// announced counts the devices that a node has; in a row they stand before those that it had.
func announced(n *api.Node) int {
	count := 0
	for i := range n.Devices {
		count += len(n.Devices[i].IDs)
	}
	return count
}

// claimDevices gives a new allocation its devices.
func (s *state) claimDevices(a allocation, claims []api.DeviceClaim) {
	for i, c := range claims {
		s.claims.Set(claim{owner: a.id, kind: s.intern(c.Type), device: s.intern(c.ID), place: uint16(i), share: int16(c.Share)})
	}
	if len(claims) > 0 {
		s.shiftDevices(a, 1)
	}
}

// freeDevices lets others have an ended allocation's devices.
func (s *state) freeDevices(a allocation) { s.shiftDevices(a, -1) }

// shiftDevices adds an allocation's shares to what is held on its node, sign times.
func (s *state) shiftDevices(a allocation, sign int16) {
	claims := s.claimsOf(a.id)
	if len(claims) == 0 {
		return
	}
	n, _ := s.nodes.get(s.names[a.node])
	n.devices = slices.Clone(n.devices)
	for _, c := range claims {
		n.shift(c, sign)
	}
	s.nodes.rows.Set(n)
}

// shift changes n.devices in place. What is held of a device that the node does not have is forgotten when it comes to
// nothing.
func (n *nodeRow) shift(c claim, sign int16) {
	i := placeOf(n.devices, c.device)
	if i < 0 {
		i = len(n.devices)
		n.devices = append(n.devices, deviceUse{id: c.device})
	}
	if n.devices[i].held += sign * c.share; n.devices[i].held == 0 && i >= announced(n.node) {
		n.devices = slices.Delete(n.devices, i, i+1)
	}
}

// recountDevices derives from restored claims what is held of the nodes' devices.
func (s *state) recountDevices() {
	last := api.ID(0)
	s.claims.Scan(func(c claim) bool {
		if a, _ := s.allocations.get(c.owner); c.owner != last && a.live() {
			s.shiftDevices(a, 1)
		}
		last = c.owner
		return true
	})
}

// forgetClaims forgets which devices an allocation had.
func (s *state) forgetClaims(owner api.ID) {
	for _, c := range s.claimsOf(owner) {
		s.claims.Delete(c)
	}
}

// noDevices says why a placement cannot have the devices that it claims, "" if it can.
func (s *state) noDevices(n *api.Node, held []deviceUse, task *api.Task, p *api.Placement) string {
	if len(task.Devices) == 0 && len(p.Devices) == 0 {
		return ""
	}
	return n.Amiss(task.Devices, p.Devices, func(id string) int {
		return api.WholeDevice - int(heldOf(held, s.handles[id]))
	})
}

// Claims returns the devices that an allocation was given, in the order of its placement.
func (s *Snapshot) Claims(id api.ID) []api.DeviceClaim {
	var out []api.DeviceClaim
	for _, c := range s.claimsOf(id) {
		out = append(out, api.DeviceClaim{Type: s.names[c.kind], ID: s.names[c.device], Share: int(c.share)})
	}
	return out
}

// NodeDevices returns what is held of each device of a node, in the order of its groups and their IDs, then of those that
// it had and that are still held.
func (s *Snapshot) NodeDevices(node string) []api.DeviceUse {
	n, ok := s.nodes.get(node)
	if !ok {
		return nil
	}
	var out []api.DeviceUse
	for i := range n.node.Devices {
		g := &n.node.Devices[i]
		for _, id := range g.IDs {
			out = append(out, api.DeviceUse{Type: g.Type, Model: g.Model, ID: id, Held: int(n.devices[len(out)].held)})
		}
	}
	for _, d := range n.devices[len(out):] {
		out = append(out, api.DeviceUse{Type: s.names[s.kindOf(n.handle, d.id)], ID: s.names[d.id], Held: int(d.held), Gone: true})
	}
	return out
}

// kindOf finds the type of a device that a node does not announce any more: its holders know it.
func (t *tables) kindOf(node, device uint32) (kind uint32) {
	t.eachOfNode(node, 0, func(a allocation) bool {
		for _, c := range t.claimsOf(a.id) {
			if c.device == device && a.live() {
				kind = c.kind
			}
		}
		return kind == 0
	})
	return kind
}

// DevicesHeld yields the ordinal of every node that has devices, with what is held of each, in thousandths and in the
// order of the node's groups and their IDs. The slice is good until the next one.
func (s *Snapshot) DevicesHeld() iter.Seq2[int, []int16] {
	return func(yield func(int, []int16) bool) {
		ordinal := 0
		var held []int16
		s.nodes.rows.Scan(func(n nodeRow) bool {
			held = held[:0]
			for _, d := range n.devices[:min(announced(n.node), len(n.devices))] {
				held = append(held, d.held)
			}
			ordinal++
			return len(held) == 0 || yield(ordinal-1, held)
		})
	}
}

// devices checks what is held of each device against the claims of those who live.
func (c *checker) devices() {
	c.s.nodes.rows.Scan(func(n nodeRow) bool {
		var held map[uint32]int
		if sum := c.nodes[n.handle]; sum != nil {
			held = sum.devices
		}
		has := announced(n.node)
		c.that(len(n.devices) >= has, "node %s has %d devices and counts for %d", n.id, has, len(n.devices))
		seen, claimed := map[uint32]bool{}, 0
		for i, d := range n.devices {
			name := c.s.names[d.id]
			c.that(!seen[d.id], "device %s of node %s is counted twice", name, n.id)
			c.that(int(d.held) == held[d.id], "%d of device %s of node %s is held by its counter and %d by its allocations",
				d.held, name, n.id, held[d.id])
			c.that(d.held >= 0 && d.held <= api.WholeDevice, "%d thousandths of device %s of node %s are held", d.held, name, n.id)
			c.that(i < has || d.held > 0, "node %s counts for device %s, which it does not have and nobody holds", n.id, name)
			if seen[d.id] = true; held[d.id] > 0 {
				claimed++
			}
		}
		c.that(claimed == len(held), "allocations on node %s hold %d devices, of which it counts for %d", n.id, len(held), claimed)
		i := 0
		for _, g := range n.node.Devices {
			for _, id := range g.IDs {
				c.that(i < len(n.devices) && c.s.names[n.devices[i].id] == id, "device %s of node %s is not where it is counted", id, n.id)
				i++
			}
		}
		return true
	})
	last := claim{}
	c.s.claims.Scan(func(d claim) bool {
		_, ok := c.s.allocations.get(d.owner)
		c.that(ok, "a device is claimed for allocation %d, which does not exist", d.owner)
		follows := d.owner == last.owner && d.place == last.place+1 || d.owner != last.owner && d.place == 0
		c.that(follows, "claim %d of allocation %d does not follow on the one before", d.place, d.owner)
		c.that(d.share > 0 && d.share <= api.WholeDevice, "allocation %d claims %d thousandths of a device", d.owner, d.share)
		last = d
		return true
	})
}

// persistClaims writes each allocation's claims in one row.
func (t *tables) persistClaims(k *sink) {
	var row []claim
	write := func() {
		if len(row) == 0 {
			return
		}
		k.uvarint(uint64(row[0].owner))
		k.uvarint(uint64(len(row)))
		for _, c := range row {
			k.name(c.kind)
			k.name(c.device)
			k.u16(uint16(c.share))
		}
		k.row()
		row = row[:0]
	}
	t.claims.Scan(func(c claim) bool {
		if len(row) > 0 && row[0].owner != c.owner {
			write()
		}
		row = append(row, c)
		return k.err == nil
	})
	write()
}

// restoreClaims reads what one allocation holds. The section follows that of the allocations.
func (s *state) restoreClaims(r *reader) {
	const claimSize = 4
	owner := api.ID(r.uvarint())
	claims := makeSlice[claim](r.count(claimSize))
	for i := range claims {
		claims[i] = claim{owner: owner, place: uint16(i), kind: s.handle(r), device: s.handle(r), share: int16(r.u16())}
		if claims[i].share < 1 || claims[i].share > api.WholeDevice {
			r.fail("allocation %d holds %d thousandths of a device", owner, claims[i].share)
		}
	}
	last, _ := s.claims.Max()
	if _, ok := s.allocations.get(owner); r.err == nil && (!ok || owner <= last.owner || len(claims) == 0 || len(claims) > 1<<16) {
		r.fail("devices are held for allocation %d, which is not there, out of order, or holds none", owner)
	}
	for _, c := range claims {
		if r.err == nil {
			s.claims.Load(c)
		}
	}
}

// Volumes need no rows of their own: which ones an allocation holds, its task says, and on which node, its row. A version of a
// job is kept as long as something lives in it.

// noVolumes says why the node's volumes cannot be given to an instance of the task beside those that hold them, "" if they can.
func (t *tables) noVolumes(n *api.Node, node uint32, task *api.Task) string {
	if len(task.Volumes) == 0 {
		return ""
	}
	held := t.volumeHolds(node)
	for i := range task.Volumes {
		v := &task.Volumes[i]
		if reason := n.LacksVolume(v); reason != "" {
			return "its node has " + reason
		}
		if hold := held[v.Source]; !hold.Admits(v.Access) {
			return fmt.Sprintf("volume %s of its node is held by %s", v.Source, hold)
		}
	}
	return ""
}

// volumeHolds is what stands on each of a node's volumes, by their names; looked up, never ranged over. It looks at what lives
// on the node.
func (t *tables) volumeHolds(node uint32) map[string]api.VolumeHold {
	held := map[string]api.VolumeHold{}
	t.eachOfNode(node, 0, func(a allocation) bool {
		if !a.live() {
			return true
		}
		for _, v := range t.volumesOf(&a) {
			hold := held[v.Source]
			hold.Add(v.Access)
			held[v.Source] = hold
		}
		return true
	})
	return held
}

// taskOf returns an allocation's task in the version that it is of.
func (t *tables) taskOf(a *allocation) *api.Task {
	if v := t.jobs.get(t.names[a.job]).version(uint64(a.version)); v != nil {
		return v.job.Task(t.names[a.task])
	}
	return nil
}

// volumesOf returns what an allocation wants of its node's volumes, and so holds of them while it lives.
func (t *tables) volumesOf(a *allocation) []api.VolumeRequest {
	if task := t.taskOf(a); task != nil {
		return task.Volumes
	}
	return nil
}

// VolumesHeld returns what stands on each volume of the node with that ordinal, by their names. It looks at what lives there:
// who asks for no volume had better not call it.
func (s *Snapshot) VolumesHeld(node int) map[string]api.VolumeHold {
	return s.volumeHolds(s.nodes.order.handle(&s.nodes, node))
}

// NodeVolumes is VolumesHeld by the node's ID.
func (s *Snapshot) NodeVolumes(id string) map[string]api.VolumeHold {
	if n, ok := s.nodes.get(id); ok {
		return s.volumeHolds(n.handle)
	}
	return nil
}

// volumes checks that who writes to a volume alone is alone.
func (c *checker) volumes() {
	c.s.nodes.rows.Scan(func(n nodeRow) bool {
		for name, hold := range c.s.volumeHolds(n.handle) {
			c.that(!hold.Single || hold.Writers == 1, "volume %s of node %s is held by %s, one of which is to be the only one", name, n.id, hold)
		}
		return true
	})
}

// Nodes that people take out of use: eligibility and drains.

// SetEligibility says whether new instances may be placed on a node. Dated has the state keep since when; entries of before
// there was such a date have none. Reason is why, in the words of who asks.
type SetEligibility struct {
	Node       string
	Ineligible bool
	Dated      bool   `json:",omitempty"`
	Reason     string `json:",omitempty"`
}

// DrainNode begins to empty a node, or ends that. With neither it takes the next step of the drain under way, if that has come
// by the entry's time and what is left on the node.
type DrainNode struct {
	Node   string
	Begin  *api.DrainRequest       `json:",omitempty"`
	Cancel *api.CancelDrainRequest `json:",omitempty"`
}

func (*SetEligibility) kind() Kind { return kindSetEligibility }
func (*DrainNode) kind() Kind      { return kindDrainNode }

func (s *state) setEligibility(b *SetEligibility) Result {
	n, ok := s.nodes.get(b.Node)
	if !ok {
		return refused(s.index, noNode(b.Node))
	}
	changed, err := drain.Eligible(n.node, !b.Ineligible, s.word(b.Reason), s.time())
	if err != nil {
		return refused(s.index, err)
	}
	if changed != n.node {
		if !b.Dated {
			changed.EligibilityAt = n.node.EligibilityAt
		}
		n.node = changed
		s.putNode(n)
		to := api.EventEligible
		if b.Ineligible {
			to = api.EventIneligible
		}
		s.note(api.Event{Type: to, Node: b.Node, By: s.by, Detail: b.Reason})
	}
	return s.done()
}

// word is who asks for what the entry being applied does, and why. Rules before 4 have states without that.
func (s *state) word(why string) (w drain.Word) {
	if s.rules >= rulesWord {
		w = drain.Word{By: s.by, Why: why}
	}
	return w
}

// drainNode begins a drain, ends one, or takes the next step of one, if its time has come. Jobs with something on the node
// are looked at whenever that changes what is to become of it.
func (s *state) drainNode(b *DrainNode, who string) Result {
	n, ok := s.nodes.get(b.Node)
	if !ok {
		return refused(s.index, noNode(b.Node))
	}
	var changed *api.Node
	var err error
	switch {
	case b.Begin != nil:
		changed, err = drain.Begin(n.node, b.Begin, who, s.word(b.Begin.Message), s.leftOn(n.handle), s.time())
	case b.Cancel != nil:
		changed, err = drain.Cancel(n.node, b.Cancel, s.word("its drain was cancelled"), s.time())
	default:
		changed = drain.Settle(n.node, s.leftOn(n.handle), s.time())
	}
	switch {
	case err != nil:
		return refused(s.index, err)
	case changed == nil:
		return s.done()
	}
	n.node = changed
	s.putNode(n)
	s.note(s.drainEvent(changed))
	hit := map[string]bool{}
	for _, a := range s.liveOn(n.handle) {
		hit[s.names[a.job]] = true
	}
	for _, name := range slices.Sorted(maps.Keys(hit)) {
		if j := s.jobs.get(name); !s.settled(j) {
			s.look(j, api.CauseDrain, n.id, nil)
		}
	}
	return s.done()
}
