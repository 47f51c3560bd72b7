package scheduler

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"cube/api"
	"cube/scheduler/matching"
)

// devices are what the view's nodes have of devices, in columns. A node's groups lie one after the other, and so do a
// group's devices; both in the order of api.Node.Devices:
//
//	the groups of node i     groups[i] <= g < groups[i+1]
//	the devices of group g   first[g] <= d < first[g+1]
//
// It is nil where no node has any.
type devices struct {
	groups []int32      // by node, and one more
	first  []int32      // by group, and one more
	kind   []int32      // by group, into kinds
	left   []int16      // by device: the thousandths that are left, this plan's placements taken off
	kinds  []deviceKind // the groups there are, alike ones once
	types  []deviceType // in the order in which the nodes come up with them

	suits   shelf[suits] // by request without count and share
	outlook *outlook     // nil until binpack asks for it
}

// suits says of each kind whether a request may take it: none if one of its constraints is wrong.
type suits struct {
	kinds []bool
	err   error
}

// deviceKind stands for groups that are alike: of one type and model, with the same attributes.
type deviceKind struct {
	group *api.DeviceGroup // one of them
	typ   int32            // into types
}

// deviceType is what the nodes have of one type, by node.
type deviceType struct {
	name  string
	total []int16 // devices
	whole []int16 // those of which nothing is held
	most  []int16 // the thousandths left of the device that has most left
	free  []int32 // the thousandths left of all of them together
}

// newDevices reads the nodes' devices. held yields what is held, as State.DevicesHeld does.
func newDevices(nodes []*api.Node, held iter.Seq2[int, []int16]) *devices {
	d := &devices{groups: make([]int32, len(nodes)+1), first: make([]int32, 1), suits: newShelf[suits](maxConditions)}
	byHash := map[uint64][]int32{} // kinds; looked up, never ranged over
	for i, n := range nodes {
		for g := range n.Devices {
			group := &n.Devices[g]
			d.kind = append(d.kind, d.kindOf(group, byHash))
			for range group.IDs {
				d.left = append(d.left, api.WholeDevice)
			}
			d.first = append(d.first, int32(len(d.left)))
		}
		d.groups[i+1] = int32(len(d.kind))
	}
	for i := range d.types {
		t, size := &d.types[i], len(nodes)
		columns := make([]int16, 3*size)
		t.total, t.whole, t.most, t.free = columns[:size], columns[size:2*size], columns[2*size:], make([]int32, size)
	}
	for i := range nodes {
		d.reckon(i)
	}
	for node, shares := range held {
		d.hold(node, shares)
	}
	return d
}

// hold takes over what is held of each device of a node, and reports whether that is something new.
func (d *devices) hold(node int, shares []int16) (changed bool) {
	left := d.of(node)
	for i, share := range shares {
		if l := api.WholeDevice - share; l != left[i] {
			left[i], changed = l, true
		}
	}
	if changed {
		d.reckon(node)
	}
	return changed
}

// kindOf finds the kind of a group, or makes a new one.
func (d *devices) kindOf(group *api.DeviceGroup, byHash map[uint64][]int32) int32 {
	hash := hashString(group.Type) ^ mix64(hashString(group.Model))
	for k, v := range group.Attributes {
		hash += mix64(hashString(k) ^ hashString(v)<<1) // a sum: in whatever order they come
	}
	for _, k := range byHash[hash] {
		if other := d.kinds[k].group; other.Type == group.Type && other.Model == group.Model && maps.Equal(other.Attributes, group.Attributes) {
			return k
		}
	}
	typ := slices.IndexFunc(d.types, func(t deviceType) bool { return t.name == group.Type })
	if typ < 0 {
		typ = len(d.types)
		d.types = append(d.types, deviceType{name: group.Type})
	}
	k := int32(len(d.kinds))
	d.kinds = append(d.kinds, deviceKind{group, int32(typ)})
	byHash[hash] = append(byHash[hash], k)
	return k
}

// of returns what is left of each device of a node.
func (d *devices) of(node int) []int16 {
	return d.left[d.first[d.groups[node]]:d.first[d.groups[node+1]]]
}

// group returns what is left of each device of a group.
func (d *devices) group(g int32) []int16 { return d.left[d.first[g]:d.first[g+1]] }

// typed returns the columns of a type, nil if no node has any device of it.
func (d *devices) typed(name string) *deviceType {
	if d == nil {
		return nil
	}
	for i := range d.types {
		if d.types[i].name == name {
			return &d.types[i]
		}
	}
	return nil
}

// reckon works out what follows from what is left of a node's devices.
func (d *devices) reckon(node int) {
	from, to := d.groups[node], d.groups[node+1]
	for g := from; g < to; g++ {
		t := &d.types[d.kinds[d.kind[g]].typ]
		t.total[node], t.whole[node], t.most[node], t.free[node] = 0, 0, 0, 0
	}
	for g := from; g < to; g++ {
		t := &d.types[d.kinds[d.kind[g]].typ]
		for _, left := range d.group(g) {
			t.total[node]++
			if left == api.WholeDevice {
				t.whole[node]++
			}
			t.most[node] = max(t.most[node], left)
			t.free[node] += int32(max(left, 0))
		}
	}
}

// take takes a plan's claims off what is left of a node's devices.
func (d *devices) take(node int, groups []api.DeviceGroup, claims []api.DeviceClaim) {
	for _, c := range claims {
		at := d.first[d.groups[node]]
		for i := range groups {
			if place := slices.Index(groups[i].IDs, c.ID); place >= 0 {
				d.left[at+int32(place)] -= int16(c.Share)
				break
			}
			at += int32(len(groups[i].IDs))
		}
	}
	d.reckon(node)
}

// deviceAsk is what a task asks for of one type of device, with what that means in this view.
type deviceAsk struct {
	*api.DeviceRequest
	suits []bool      // by kind
	typ   *deviceType // nil if no node has any of the type
}

// askDevice adds the filters of a request for devices: the node has to have a group that may be taken and is large
// enough, which does not change within a batch, and of such a group enough has to be left.
func (r *request) askDevice(request *api.DeviceRequest) {
	d := r.view.devices
	ask := deviceAsk{DeviceRequest: request, typ: d.typed(request.Type)}
	condition := deviceCondition(request)
	var broken error
	if ask.typ != nil {
		s := d.suiting(condition, request)
		ask.suits, broken = s.kinds, s.err
	}
	key := fmt.Sprintf("device %d %s", request.Count, condition)
	set := r.view.largeEnough(key, &ask)
	r.open.intersect(set)
	r.shape = append(r.shape, fmt.Sprintf("%s share %d\n", key, request.Share)...)
	name := "device " + request.Type
	r.fixed = append(r.fixed, filter{name: name, wanted: ask.wantedKind(), passes: set.has, seen: func(node int) string {
		if broken != nil {
			return "the constraint is wrong: " + broken.Error()
		}
		return ask.seenKind(r.view.nodes[node])
	}})
	r.others = append(r.others, filter{name: name + " free", wanted: ask.wantedRoom(), given: set.has,
		passes: func(node int) bool { return ask.fits(d, node) },
		seen:   func(node int) string { return ask.seenRoom(d, node) },
		amount: func(node int) (int64, int64) { return ask.amount(d, node) }})
	r.devices = append(r.devices, ask)
}

// largeEnough returns the nodes with a group that may be taken and has as many devices as are asked for, working it out at
// the first call with the key.
func (v *view) largeEnough(key string, a *deviceAsk) bitmap {
	if c, ok := v.conditions.get(key); ok {
		return c.nodes
	}
	c := &condition{nodes: newBitmap(len(v.nodes))}
	for node := range v.nodes {
		c.nodes.put(node, a.typ != nil && a.largest(v.devices, node) >= a.Count)
	}
	v.conditions.put(key, c)
	return c.nodes
}

// deviceCondition names what a request asks of a group, in the words of conditionKey.
func deviceCondition(request *api.DeviceRequest) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q", request.Type)
	for _, c := range request.Constraints {
		b.WriteString(" & " + conditionKey(c.Attribute, c.Operator, c.Value))
	}
	return b.String()
}

// suiting says of each kind whether a request may take it, working it out at the first call with the condition.
func (d *devices) suiting(condition string, request *api.DeviceRequest) suits {
	if s, ok := d.suits.get(condition); ok {
		return s
	}
	s := suits{kinds: make([]bool, len(d.kinds))}
	for k := range d.kinds {
		s.kinds[k] = d.kinds[k].group.Type == request.Type
	}
	for _, c := range request.Constraints {
		match, err := matching.New(c.Operator, c.Value)
		if err != nil {
			s = suits{make([]bool, len(d.kinds)), err}
			break
		}
		for k := range d.kinds {
			s.kinds[k] = s.kinds[k] && match(d.kinds[k].group.Attribute(c.Attribute))
		}
	}
	d.suits.put(condition, s)
	return s
}

// largest is the number of devices of the node's largest group that may be taken.
func (a *deviceAsk) largest(d *devices, node int) int {
	most := 0
	for g := d.groups[node]; g < d.groups[node+1]; g++ {
		if a.suits[d.kind[g]] {
			most = max(most, len(d.group(g)))
		}
	}
	return most
}

// fits reports whether a group that may be taken has enough left, of a node that has such a group. The columns say so
// where there is one group only, as on most nodes, and mostly where there is not enough.
func (a *deviceAsk) fits(d *devices, node int) bool {
	if a.Share < api.WholeDevice && int(a.typ.most[node]) < a.Share || a.Share == api.WholeDevice && int(a.typ.whole[node]) < a.Count {
		return false
	}
	from, to := d.groups[node], d.groups[node+1]
	if to-from == 1 {
		return true
	}
	for g := from; g < to; g++ {
		if a.suits[d.kind[g]] && a.Fits(d.group(g)) {
			return true
		}
	}
	return false
}

// claim chooses the devices that an instance of the task gets on a node that has room for it: those of a group that
// api.DeviceRequest.Choose says, of the group where that breaks into least; the first among equals.
func (r *request) claim(node int) []api.DeviceClaim {
	var claims []api.DeviceClaim
	d, n := r.view.devices, r.view.nodes[node]
	for i := range r.devices {
		a := &r.devices[i]
		best := a.best(d, node)
		ids := n.Devices[best-d.groups[node]].IDs
		for _, place := range a.Choose(d.group(best), nil) {
			claims = append(claims, api.DeviceClaim{Type: a.Type, ID: ids[place], Share: a.Share})
		}
	}
	return claims
}

// best is the group to take devices of, of those that can give them the one where that breaks into least; the first among
// equals, -1 if there is none.
func (a *deviceAsk) best(d *devices, node int) int32 {
	best, least := int32(-1), int32(0)
	for g := d.groups[node]; g < d.groups[node+1]; g++ {
		if a.suits[d.kind[g]] && a.Fits(d.group(g)) {
			if spare := a.spare(d.group(g)); best < 0 || spare < least {
				best, least = g, spare
			}
		}
	}
	return best
}

// spare is what a group that fits has beyond what is asked for, as far as it matters: of the one device that is shared,
// or in whole devices.
func (a *deviceAsk) spare(left []int16) (spare int32) {
	if a.Share < api.WholeDevice {
		least := int16(api.WholeDevice)
		for _, l := range left {
			if int(l) >= a.Share {
				least = min(least, l)
			}
		}
		return int32(least)
	}
	for _, l := range left {
		if l == api.WholeDevice {
			spare++
		}
	}
	return spare
}

// groupText is a group as people say it: 4 A100.
func groupText(count int, g *api.DeviceGroup) string {
	if g.Model == "" {
		return fmt.Sprint(count)
	}
	return fmt.Sprintf("%d %s", count, g.Model)
}

// wantedKind says what a node has to have.
func (a *deviceAsk) wantedKind() string {
	var conditions []string
	for _, c := range a.Constraints {
		conditions = append(conditions, strings.TrimSuffix(c.Attribute+" "+c.Operator+" "+c.Value, " "))
	}
	text := fmt.Sprint(a.Count)
	if len(conditions) > 0 {
		text += " with " + strings.Join(conditions, ", ")
	}
	return text
}

// seenKind says what the node has of the type.
func (a *deviceAsk) seenKind(n *api.Node) string {
	var seen []string
	for i := range n.Devices {
		if g := &n.Devices[i]; g.Type == a.Type {
			seen = append(seen, groupText(len(g.IDs), g))
		}
	}
	if len(seen) == 0 {
		return "none"
	}
	return strings.Join(seen, " and ")
}

// wantedRoom says what has to be left.
func (a *deviceAsk) wantedRoom() string {
	if a.Share < api.WholeDevice {
		return api.FormatShare(a.Share) + " of one"
	}
	return fmt.Sprintf("%d whole", a.Count)
}

// amount is what is wanted and what the best of the groups that may be taken and are large enough has: devices, or
// thousandths of one.
func (a *deviceAsk) amount(d *devices, node int) (ask, free int64) {
	wanted, have := a.Count, 0
	if a.Share < api.WholeDevice {
		wanted = a.Share
	}
	for g := d.groups[node]; g < d.groups[node+1]; g++ {
		left := d.group(g)
		switch {
		case !a.suits[d.kind[g]] || len(left) < a.Count:
		case a.Share < api.WholeDevice:
			have = max(have, int(slices.Max(left)))
		default:
			have = max(have, int(a.spare(left)))
		}
	}
	return int64(wanted), int64(have)
}

// seenRoom says what is left in the groups that may be taken and are large enough.
func (a *deviceAsk) seenRoom(d *devices, node int) string {
	var seen []string
	for g := d.groups[node]; g < d.groups[node+1]; g++ {
		left := d.group(g)
		if !a.suits[d.kind[g]] || len(left) < a.Count {
			continue
		}
		have := groupText(len(left), d.kinds[d.kind[g]].group)
		switch most := int(slices.Max(left)); {
		case a.Share == api.WholeDevice:
			seen = append(seen, fmt.Sprintf("%d free of %s", a.spare(left), have))
		case most <= 0:
			seen = append(seen, "nothing left of "+have)
		default:
			seen = append(seen, fmt.Sprintf("at most %s left on one of %s", api.FormatShare(most), have))
		}
	}
	return strings.Join(seen, " and ")
}
