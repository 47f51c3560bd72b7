package fsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"cube/api"
)

// writer appends primitives to a buffer: fixed little-endian integers, varints, and strings led by their length.
type writer struct{ b []byte }

func (w *writer) u8(v uint8)       { w.b = append(w.b, v) }
func (w *writer) u16(v uint16)     { w.b = binary.LittleEndian.AppendUint16(w.b, v) }
func (w *writer) u32(v uint32)     { w.b = binary.LittleEndian.AppendUint32(w.b, v) }
func (w *writer) uvarint(v uint64) { w.b = binary.AppendUvarint(w.b, v) }
func (w *writer) varint(v int64)   { w.b = binary.AppendVarint(w.b, v) }
func (w *writer) string(s string)  { w.uvarint(uint64(len(s))); w.b = append(w.b, s...) }
func (w *writer) bytes(p []byte)   { w.uvarint(uint64(len(p))); w.b = append(w.b, p...) }

func (w *writer) bool(v bool) {
	if v {
		w.u8(1)
	} else {
		w.u8(0)
	}
}

func putU32(b []byte, v uint32) { binary.LittleEndian.PutUint32(b, v) }

// reader takes primitives off a buffer. The first thing that does not fit sets err; from then on everything reads as
// zero, so that callers check once at the end.
type reader struct {
	b   []byte
	err error
}

func (r *reader) left() int { return len(r.b) }

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
		r.b = nil
	}
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail("it ends early")
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) u8() uint8 {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *reader) bool() bool {
	v := r.u8()
	if v > 1 {
		r.fail("%d is neither true nor false", v)
	}
	return v == 1
}

func (r *reader) u16() uint16 {
	if p := r.take(2); p != nil {
		return binary.LittleEndian.Uint16(p)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if p := r.take(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("a number is cut short or too long")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail("a number is cut short or too long")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads a number of elements of which each takes at least size bytes of what is left: no more can be there, so
// that a lie about it cannot make us allocate.
func (r *reader) count(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/size) {
		r.fail("it announces %d elements and has %d bytes left", n, len(r.b))
		return 0
	}
	return int(n)
}

func (r *reader) bytes() []byte  { return r.take(r.count(1)) }
func (r *reader) string() string { return string(r.bytes()) }

// atMost reads a number that has to fit a smaller type.
func (r *reader) atMost(limit uint64) uint64 {
	v := r.uvarint()
	if v > limit {
		r.fail("%d is more than %d", v, limit)
		return 0
	}
	return v
}

// close returns the first error, and one if anything is left over.
func (r *reader) close() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes too many", len(r.b))
	}
	return r.err
}

// json reads a value led by its length.
func (r *reader) json(v any) {
	raw := r.bytes()
	if r.err != nil {
		return
	}
	if err := decodeJSON(raw, v); err != nil {
		r.fail("%w", err)
	}
}

// makeSlice is make, with nil for nothing: so decoding gives back what was encoded.
func makeSlice[T any](n int) []T {
	if n == 0 {
		return nil
	}
	return make([]T, n)
}

// decodeJSON reads exactly one JSON value without fields that v does not have.
func decodeJSON(raw []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("something follows the JSON value")
	}
	return nil
}

// dictionary numbers values in the order in which they first come up, so that an entry names each of them once.
type dictionary[T comparable] struct {
	places map[T]uint64
	values []T
}

func (d *dictionary[T]) place(v T) uint64 {
	if p, ok := d.places[v]; ok {
		return p
	}
	if d.places == nil {
		d.places = map[T]uint64{}
	}
	p := uint64(len(d.values))
	d.places[v] = p
	d.values = append(d.values, v)
	return p
}

// planWriter lays a plan out: its names and sizes once, in dictionaries of the entry's own, then columns of numbers.
type planWriter struct {
	writer
	names dictionary[string]
	sizes dictionary[api.Resources]
	planLayout
}

func encodePlan(p *api.Plan) ([]byte, error) {
	if p == nil {
		return nil, fmt.Errorf("there is no plan")
	}
	w := planWriter{planLayout: layoutOf(p)}
	w.uvarint(uint64(len(p.Jobs)))
	for i := range p.Jobs {
		if err := w.jobPlan(&p.Jobs[i]); err != nil {
			return nil, err
		}
	}
	var head writer
	head.uvarint(p.BaseIndex)
	head.uvarint(uint64(len(w.names.values)))
	for _, name := range w.names.values {
		head.string(name)
	}
	head.uvarint(uint64(len(w.sizes.values)))
	for _, size := range w.sizes.values {
		head.resources(size)
	}
	return append(head.b, w.b...), nil
}

func (w *writer) resources(r api.Resources) {
	w.varint(r.CPU)
	w.varint(r.Memory)
	w.varint(r.Disk)
}

func (w *planWriter) name(s string) { w.uvarint(w.names.place(s)) }

func (w *planWriter) jobPlan(p *api.JobPlan) error {
	w.uvarint(uint64(p.Evaluation))
	w.name(p.Job)
	w.uvarint(p.JobModifyIndex)
	status := slices.Index(evaluationStatuses(), p.Status)
	if status < 0 {
		return fmt.Errorf("the plan for job %q has status %q, which is none", p.Job, p.Status)
	}
	w.u8(uint8(status))
	w.string(p.Message)
	w.bool(len(p.Explanations) > 0)
	if len(p.Explanations) > 0 {
		explanations, err := json.Marshal(p.Explanations)
		if err != nil {
			return err
		}
		w.bytes(explanations)
	}
	if w.timed {
		w.varint(p.WakeAt)
	}
	w.placements(p.Placements)
	w.uvarint(uint64(len(p.Stops)))
	last := api.ID(0)
	for _, stop := range p.Stops {
		w.varint(int64(stop.Allocation - last))
		w.name(stop.Reason)
		last = stop.Allocation
	}
	w.uvarint(uint64(len(p.InPlace)))
	last = 0
	for _, id := range p.InPlace {
		w.varint(int64(id - last))
		last = id
	}
	if w.preempt {
		w.preemptions(p.Preemptions)
		w.promises(p.Promises)
	}
	return nil
}

func (w *planWriter) placements(placements []api.Placement) {
	w.uvarint(uint64(len(placements)))
	for i := range placements {
		w.name(placements[i].Task)
	}
	last := uint32(0)
	for i := range placements {
		w.varint(int64(placements[i].Slot) - int64(last))
		last = placements[i].Slot
	}
	for i := range placements {
		w.uvarint(placements[i].Version)
	}
	for i := range placements {
		w.name(placements[i].Node)
	}
	for i := range placements {
		w.uvarint(uint64(placements[i].Replaces))
	}
	for i := range placements {
		w.uvarint(w.sizes.place(placements[i].Held))
	}
	for i := range placements {
		w.uvarint(uint64(len(placements[i].Ports)))
		for _, port := range placements[i].Ports {
			w.name(port.Label)
			w.varint(int64(port.Host))
			w.varint(int64(port.To))
		}
	}
	for i := range placements {
		if !w.devices {
			break
		}
		w.uvarint(uint64(len(placements[i].Devices)))
		for _, c := range placements[i].Devices {
			w.name(c.Type)
			w.name(c.ID)
			w.varint(int64(c.Share))
		}
	}
	for i := range placements {
		if w.beside {
			w.bool(placements[i].Beside)
		}
	}
	if w.timed {
		w.trials(placements)
	}
}

// planReader reads what planWriter wrote.
type planReader struct {
	reader
	names []string
	sizes []api.Resources
	planLayout
}

// What the parts of a plan take at least, in bytes.
const (
	jobPlanSize   = 9 // one for each field and length
	placementSize = 7 // likewise
	portSize      = 3
	claimSize     = 3
	stopSize      = 2
	sizeSize      = 3
)

func decodePlan(raw []byte, l planLayout) (*api.Plan, error) {
	r := planReader{reader: reader{b: raw}, planLayout: l}
	p := &api.Plan{BaseIndex: r.uvarint()}
	r.names = makeSlice[string](r.count(1))
	for i := range r.names {
		r.names[i] = r.string()
	}
	r.sizes = makeSlice[api.Resources](r.count(sizeSize))
	for i := range r.sizes {
		r.sizes[i] = r.resources()
	}
	p.Jobs = makeSlice[api.JobPlan](r.count(jobPlanSize))
	for i := range p.Jobs {
		r.jobPlan(&p.Jobs[i])
	}
	return p, r.close()
}

func (r *reader) resources() api.Resources {
	return api.Resources{CPU: r.varint(), Memory: r.varint(), Disk: r.varint()}
}

func (r *planReader) name() string {
	if p := r.uvarint(); p < uint64(len(r.names)) {
		return r.names[p]
	}
	r.fail("it names what its dictionary does not have")
	return ""
}

func (r *planReader) size() api.Resources {
	if p := r.uvarint(); p < uint64(len(r.sizes)) {
		return r.sizes[p]
	}
	r.fail("it names a size that its dictionary does not have")
	return api.Resources{}
}

func (r *planReader) jobPlan(p *api.JobPlan) {
	p.Evaluation = api.ID(r.uvarint())
	p.Job = r.name()
	p.JobModifyIndex = r.uvarint()
	if status := int(r.u8()); status < len(evaluationStatuses()) {
		p.Status = evaluationStatuses()[status]
	} else {
		r.fail("status %d is none", status)
	}
	p.Message = r.string()
	if r.bool() {
		r.json(&p.Explanations)
	}
	if r.timed {
		p.WakeAt = r.varint()
	}
	p.Placements = r.placements()
	p.Stops = makeSlice[api.Stop](r.count(stopSize))
	last := api.ID(0)
	for i := range p.Stops {
		last += api.ID(r.varint())
		p.Stops[i] = api.Stop{Allocation: last, Reason: r.name()}
	}
	p.InPlace = makeSlice[api.ID](r.count(1))
	last = 0
	for i := range p.InPlace {
		last += api.ID(r.varint())
		p.InPlace[i] = last
	}
	if r.preempt {
		p.Preemptions, p.Promises = r.preemptions(), r.promises()
	}
}

func (r *planReader) placements() []api.Placement {
	out := makeSlice[api.Placement](r.count(placementSize))
	for i := range out {
		out[i].Task = r.name()
	}
	last := int64(0)
	for i := range out {
		if last += r.varint(); last < 0 || last > 1<<32-1 {
			r.fail("slot %d is none", last)
		}
		out[i].Slot = uint32(last)
	}
	for i := range out {
		out[i].Version = r.uvarint()
	}
	for i := range out {
		out[i].Node = r.name()
	}
	for i := range out {
		out[i].Replaces = api.ID(r.uvarint())
	}
	for i := range out {
		out[i].Held = r.size()
	}
	for i := range out {
		out[i].Ports = makeSlice[api.PortBinding](r.count(portSize))
		for k := range out[i].Ports {
			out[i].Ports[k] = api.PortBinding{Label: r.name(), Host: int(r.varint()), To: int(r.varint())}
		}
	}
	for i := range out {
		if !r.devices {
			break
		}
		out[i].Devices = makeSlice[api.DeviceClaim](r.count(claimSize))
		for k := range out[i].Devices {
			out[i].Devices[k] = api.DeviceClaim{Type: r.name(), ID: r.name(), Share: int(r.varint())}
		}
	}
	for i := range out {
		if r.beside {
			out[i].Beside = r.bool()
		}
	}
	if r.timed {
		r.trials(out)
	}
	return out
}

func (t *requestTable) persist(k *sink) {
	t.rows.Scan(func(q *request) bool {
		k.uvarint(q.index)
		k.string(q.id)
		k.b = append(k.b, q.body[:]...)
		k.uvarint(uint64(q.evaluation))
		k.uvarint(uint64(len(q.registered)))
		for _, j := range q.registered {
			k.string(j.Name)
			k.uvarint(j.Version)
			k.bool(j.Changed)
			k.uvarint(uint64(j.Evaluation))
		}
		return k.row()
	})
}

func (s *state) restoreRequest(r *reader) {
	q := &request{index: r.uvarint(), id: r.string()}
	copy(q.body[:], r.take(sha256.Size))
	q.evaluation = api.ID(r.uvarint())
	const registeredSize = 4
	q.registered = makeSlice[RegisteredJob](r.count(registeredSize))
	for i := range q.registered {
		q.registered[i] = RegisteredJob{Name: r.string(), Version: r.uvarint(), Changed: r.bool(), Evaluation: api.ID(r.uvarint())}
	}
	s.keepRequest(q)
}
