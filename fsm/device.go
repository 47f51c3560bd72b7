package fsm

import (
	"iter"
	"slices"

	"cube/api"
)

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
