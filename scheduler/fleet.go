package scheduler

import (
	"maps"
	"math/bits"
	"slices"

	"cube/api"
	"cube/scheduler/matching"
)

// What a fleet remembers at most, twice over (see shelf): sets of nodes that meet a condition, columns of attributes.
const (
	maxConditions = 256
	maxColumns    = 16
)

// fleet is what a view knows that depends on the nodes alone, not on what they hold. A node that changes is another
// *api.Node (State.Nodes), so that a look at the pointers tells what is to be worked out again.
type fleet struct {
	nodes     []*api.Node
	hash      []uint64        // of the node's ID: what makes jobs start at different nodes
	total     []api.Resources // what the node has
	perCPU    []float64       // 1 / the node's CPU; 0 if it has none
	perMemory []float64

	conditions shelf[*condition] // by key
	columns    shelf[*column]    // by attribute
	replaced   int               // nodes, since all was made
}

// condition is a set of nodes with what puts a node into it, which may depend on the node alone.
type condition struct {
	nodes bitmap
	meets func(*api.Node) bool // nil if only other devices could change the set
	err   error                // the condition is wrong: no node meets it
}

// column is the values that the nodes have of one attribute.
type column struct {
	attribute string
	of        []int32 // by node, into values; -1 for a node that does not have it
	values    []string
	known     map[string]int32
}

func newFleet(nodes []*api.Node) fleet {
	size := len(nodes)
	f := fleet{nodes: nodes, hash: make([]uint64, size), total: make([]api.Resources, size), perCPU: make([]float64, size),
		perMemory: make([]float64, size), conditions: newShelf[*condition](maxConditions), columns: newShelf[*column](maxColumns)}
	for i, n := range nodes {
		f.hash[i] = hashString(n.ID)
		f.measure(i)
	}
	return f
}

// measure reads what a node has.
func (f *fleet) measure(i int) {
	f.total[i] = f.nodes[i].Resources
	f.perCPU[i], f.perMemory[i] = inverse(f.total[i].CPU), inverse(f.total[i].Memory)
}

// replace puts a node in the place of its former self, and into or out of all that is remembered. It returns false if
// everything had better be made anew: it is another node, it has other devices, or so many were replaced that most of
// what is remembered may be about values that are gone.
func (f *fleet) replace(i int, n *api.Node) bool {
	old := f.nodes[i]
	f.replaced++
	if old.ID != n.ID || f.replaced > 4*len(f.nodes)+100 || !slices.EqualFunc(old.Devices, n.Devices, sameGroup) {
		return false
	}
	f.nodes[i] = n
	f.measure(i)
	f.conditions.each(func(c *condition) {
		if c.meets != nil {
			c.nodes.put(i, c.meets(n))
		}
	})
	f.columns.each(func(c *column) { c.of[i] = c.value(n) })
	return true
}

func sameGroup(a, b api.DeviceGroup) bool {
	return a.Type == b.Type && a.Model == b.Model && slices.Equal(a.IDs, b.IDs) && maps.Equal(a.Attributes, b.Attributes)
}

// set returns the nodes that meet a condition, working it out at the first call with the key.
func (f *fleet) set(key string, meets func(*api.Node) bool) bitmap {
	if c, ok := f.conditions.get(key); ok {
		return c.nodes
	}
	c := &condition{nodes: newBitmap(len(f.nodes)), meets: meets}
	for i, n := range f.nodes {
		c.nodes.put(i, meets(n))
	}
	f.conditions.put(key, c)
	return c.nodes
}

// setWhere returns the nodes whose attribute meets a condition. One that does not compile no node meets.
func (f *fleet) setWhere(attribute, operator, operand string) (bitmap, error) {
	key := conditionKey(attribute, operator, operand)
	if c, ok := f.conditions.get(key); ok {
		return c.nodes, c.err
	}
	c := &condition{nodes: newBitmap(len(f.nodes))}
	f.conditions.put(key, c)
	match, err := matching.New(operator, operand)
	if err != nil {
		c.err = err
		return c.nodes, c.err
	}
	c.meets = attributeTest(attribute, match)
	values := f.column(attribute)
	met := make([]bool, len(values.values)+1) // each value is looked at once; the last one is that of nodes without
	for i, value := range values.values {
		met[i] = match(value, true)
	}
	met[len(values.values)] = match("", false)
	for i, value := range values.of {
		if value < 0 {
			value = int32(len(values.values))
		}
		c.nodes.put(i, met[value])
	}
	return c.nodes, nil
}

// column returns the nodes' values of an attribute, reading them at the first call.
func (f *fleet) column(attribute string) *column {
	if c, ok := f.columns.get(attribute); ok {
		return c
	}
	c := &column{attribute: attribute, of: make([]int32, len(f.nodes)), known: map[string]int32{}}
	for i, n := range f.nodes {
		c.of[i] = c.value(n)
	}
	f.columns.put(attribute, c)
	return c
}

// value finds the number of a node's value, or gives it the next one.
func (c *column) value(n *api.Node) int32 {
	text, ok := n.Attribute(c.attribute)
	if !ok {
		return -1
	}
	value, known := c.known[text]
	if !known {
		value = int32(len(c.values))
		c.values = append(c.values, text)
		c.known[text] = value
	}
	return value
}

func inverse(total int64) float64 {
	if total <= 0 {
		return 0
	}
	return 1 / float64(total)
}

// shelf keeps what can be made again, by key: whatever was asked for among the last so many different things, and at most
// twice as much.
type shelf[V any] struct {
	size       int
	front, old map[string]V
}

func newShelf[V any](size int) shelf[V] { return shelf[V]{size, map[string]V{}, nil} }

func (s *shelf[V]) get(key string) (v V, ok bool) {
	if v, ok = s.front[key]; ok {
		return v, true
	}
	if v, ok = s.old[key]; ok {
		s.put(key, v)
	}
	return v, ok
}

func (s *shelf[V]) put(key string, v V) {
	if len(s.front) >= s.size {
		s.front, s.old = map[string]V{}, s.front
	}
	s.front[key] = v
}

// each calls f with all there is, in no order: what f does with one must have nothing to do with the others.
func (s *shelf[V]) each(f func(V)) {
	for _, v := range s.front {
		f(v)
	}
	for key, v := range s.old {
		if _, twice := s.front[key]; !twice {
			f(v)
		}
	}
}

// keep throws away what f says no to.
func (s *shelf[V]) keep(f func(V) bool) {
	maps.DeleteFunc(s.front, func(_ string, v V) bool { return !f(v) })
	maps.DeleteFunc(s.old, func(_ string, v V) bool { return !f(v) })
}

// bitmap is a set of nodes.
type bitmap []uint64

func newBitmap(size int) bitmap { return make(bitmap, (size+63)/64) }
func (b bitmap) add(i int)      { b[i>>6] |= 1 << (i & 63) }
func (b bitmap) has(i int) bool { return b[i>>6]>>(i&63)&1 != 0 }
func (b bitmap) put(i int, in bool) {
	b[i>>6] &^= 1 << (i & 63)
	if in {
		b.add(i)
	}
}
func (b bitmap) intersect(other bitmap) {
	for i := range b {
		b[i] &= other[i]
	}
}

// each calls f with every member, in order.
func (b bitmap) each(f func(i int)) {
	for w, word := range b {
		for ; word != 0; word &= word - 1 {
			f(w<<6 + bits.TrailingZeros64(word))
		}
	}
}

// hashString is FNV-1a (Fowler, Noll, Vo), finished by mix64: the same on every machine and in every version of Go.
func hashString(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := 0; i < len(s); i++ {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix64(h)
}

// mix64 is the finalizer of SplitMix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit.
func mix64(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
