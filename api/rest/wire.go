package rest

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"time"

	"cube/api"
)

// What nodes and servers exchange all the time is laid out by hand: a poll's answer and a report are most of what a busy
// cluster encodes, and reflection costs a microsecond for each status. Each argument and answer begins with the number of
// its layout. A reader refuses a number that it does not know; one that knows several answers in the one it was asked in.
//
// Numbers are varints. Names that are alike tend to follow each other: one that repeats the name before it in its column
// is a zero byte.

// layout is the number of the only layout so far.
const layout = 1

// errCut says that a message ends early or carries a number that cannot be.
var errCut = errors.New("it is cut short or spoilt")

// wireWriter appends to b.
type wireWriter struct{ b []byte }

func newWireWriter(size int) *wireWriter {
	return &wireWriter{append(make([]byte, 0, size), layout)}
}

func (w *wireWriter) u8(v uint8)    { w.b = append(w.b, v) }
func (w *wireWriter) uint(v uint64) { w.b = binary.AppendUvarint(w.b, v) }
func (w *wireWriter) int(v int64)   { w.b = binary.AppendVarint(w.b, v) }
func (w *wireWriter) float(v float64) {
	w.b = binary.LittleEndian.AppendUint64(w.b, math.Float64bits(v))
}

func (w *wireWriter) bool(v bool) {
	if v {
		w.u8(1)
	} else {
		w.u8(0)
	}
}

func (w *wireWriter) string(s string) {
	w.uint(uint64(len(s)))
	w.b = append(w.b, s...)
}

func (w *wireWriter) bytes(p []byte) {
	w.uint(uint64(len(p)))
	w.b = append(w.b, p...)
}

// name writes s, or that it repeats last, which it then is.
func (w *wireWriter) name(last *string, s string) {
	if s == *last {
		w.u8(0)
		return
	}
	*last = s
	w.uint(uint64(len(s)) + 1)
	w.b = append(w.b, s...)
}

// wireReader takes from b. The first thing that does not fit sets err; from then on all is zero, so that callers look once,
// at the end.
type wireReader struct {
	b   []byte
	err error
}

func newWireReader(b []byte) *wireReader {
	r := &wireReader{b: b}
	if v := r.u8(); r.err == nil && v != layout {
		r.err = api.Errorf(api.CodeIncompatible, "layout %d is not known here; upgrade servers first", v)
	}
	return r
}

func (r *wireReader) take(n uint64) []byte {
	if r.err == nil && n > uint64(len(r.b)) {
		r.err = errCut
	}
	if r.err != nil {
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *wireReader) u8() uint8 {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *wireReader) bool() bool { return r.u8() != 0 }

func (r *wireReader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		n, v = len(r.b)+1, 0
	}
	if r.take(uint64(n)) == nil {
		return 0
	}
	return v
}

func (r *wireReader) int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		n, v = len(r.b)+1, 0
	}
	if r.take(uint64(n)) == nil {
		return 0
	}
	return v
}

// small reads a number that has to fit a smaller type.
func (r *wireReader) small(limit uint64) uint64 {
	v := r.uint()
	if r.err == nil && v > limit {
		r.err = errCut
		return 0
	}
	return v
}

func (r *wireReader) float() float64 {
	if p := r.take(8); p != nil {
		return math.Float64frombits(binary.LittleEndian.Uint64(p))
	}
	return 0
}

func (r *wireReader) string() string { return string(r.take(r.uint())) }

// bytes returns a part of the message; nil where it is empty.
func (r *wireReader) bytes() []byte {
	p := r.take(r.uint())
	if len(p) == 0 {
		return nil
	}
	return p[:len(p):len(p)]
}

func (r *wireReader) name(last *string) string {
	if n := r.uint(); n > 0 {
		*last = string(r.take(n - 1))
	}
	return *last
}

// count reads how many elements follow, each of at least size bytes: no more can be there, so that a lie about it makes
// nobody allocate.
func (r *wireReader) count(size int) int {
	n := r.uint()
	if r.err == nil && n > uint64(len(r.b)/size) {
		r.err = errCut
		return 0
	}
	return int(n)
}

// done returns the first error. What is left over belongs to a later addition.
func (r *wireReader) done() error {
	if r.err != nil && api.CodeOf(r.err) != api.CodeIncompatible {
		return api.Errorf(api.CodeInvalid, "the message cannot be read: %w", r.err)
	}
	return r.err
}

func (w *wireWriter) strings(list []string) {
	w.uint(uint64(len(list)))
	for _, s := range list {
		w.string(s)
	}
}

func (r *wireReader) strings() []string {
	n := r.count(1)
	if n == 0 {
		return nil
	}
	out := make([]string, n)
	for i := range out {
		out[i] = r.string()
	}
	return out
}

func (w *wireWriter) load(l *api.NodeLoad) {
	w.bool(l != nil)
	if l == nil {
		return
	}
	for _, v := range []int64{l.CPU, l.CPUTotal, l.Memory, l.MemoryTotal, l.Disk, l.DiskTotal, int64(l.Uptime)} {
		w.int(v)
	}
	w.float(l.Load1)
	w.float(l.Load5)
}

func (r *wireReader) load() *api.NodeLoad {
	if !r.bool() {
		return nil
	}
	l := new(api.NodeLoad)
	for _, v := range []*int64{&l.CPU, &l.CPUTotal, &l.Memory, &l.MemoryTotal, &l.Disk, &l.DiskTotal, (*int64)(&l.Uptime)} {
		*v = r.int()
	}
	l.Load1, l.Load5 = r.float(), r.float()
	return l
}

func encodePollRequest(p *api.PollRequest) []byte {
	w := newWireWriter(128)
	w.string(p.Node)
	w.uint(p.Incarnation)
	w.uint(uint64(p.Epoch))
	w.uint(p.Index)
	w.uint(p.Seen)
	w.load(p.Load)
	return w.b
}

func decodePollRequest(b []byte) (*api.PollRequest, error) {
	r, p := newWireReader(b), new(api.PollRequest)
	p.Node, p.Incarnation, p.Epoch = r.string(), r.uint(), uint32(r.small(math.MaxUint32))
	p.Index, p.Seen, p.Load = r.uint(), r.uint(), r.load()
	return p, r.done()
}

func encodePollAnswer(p *api.PollAnswer) []byte {
	size := 128 + 32*len(p.Assignments)
	for i := range p.Specs {
		size += 32 + len(p.Specs[i].Body)
	}
	w := newWireWriter(size)
	w.uint(uint64(p.Epoch))
	w.uint(p.Index)
	w.bool(p.Register)
	w.bool(p.NoLeader)
	w.float(p.Excess)
	w.bool(p.Elsewhere)
	w.strings(p.Servers)
	w.uint(uint64(len(p.Specs)))
	for i := range p.Specs {
		w.string(p.Specs[i].Job)
		w.uint(p.Specs[i].Version)
		w.bytes(p.Specs[i].Body)
	}
	w.assignments(p.Assignments)
	w.marked(p.Assignments, func(a *api.Assignment) *bool { return &a.Hurry })
	w.marked(p.Assignments, func(a *api.Assignment) *bool { return &a.Moved })
	w.former(p.Assignments)
	return w.b
}

func decodePollAnswer(b []byte) (*api.PollAnswer, error) {
	r, p := newWireReader(b), new(api.PollAnswer)
	p.Epoch, p.Index = uint32(r.small(math.MaxUint32)), r.uint()
	p.Register, p.NoLeader, p.Excess, p.Elsewhere, p.Servers = r.bool(), r.bool(), r.float(), r.bool(), r.strings()
	if n := r.count(3); n > 0 {
		p.Specs = make([]api.JobSpec, n)
	}
	for i := range p.Specs {
		p.Specs[i] = api.JobSpec{Job: r.string(), Version: r.uint(), Body: r.bytes()}
	}
	p.Assignments = r.assignments()
	r.marked(p.Assignments, func(a *api.Assignment) *bool { return &a.Hurry })
	r.marked(p.Assignments, func(a *api.Assignment) *bool { return &a.Moved })
	r.former(p.Assignments)
	return p, r.done()
}

// assignments are in the order of their change, so that IDs that follow each other are near each other.
func (w *wireWriter) assignments(list []api.Assignment) {
	w.uint(uint64(len(list)))
	var job, task, label, kind string
	last := api.ID(0)
	for i := range list {
		a := &list[i]
		w.int(int64(a.ID - last))
		last = a.ID
		w.name(&job, a.Job)
		w.uint(a.Version)
		w.name(&task, a.Task)
		w.uint(uint64(a.Slot))
		w.u8(uint8(a.Desired))
		w.uint(uint64(a.Restarts))
		w.u8(uint8(a.Phase))
		w.uint(a.Seq)
		w.uint(uint64(len(a.Ports)))
		for _, p := range a.Ports {
			w.name(&label, p.Label)
			w.int(int64(p.Host))
			w.int(int64(p.To))
		}
		w.uint(uint64(len(a.Devices)))
		for _, d := range a.Devices {
			w.name(&kind, d.Type)
			w.string(d.ID)
			w.int(int64(d.Share))
		}
	}
}

func (r *wireReader) assignments() []api.Assignment {
	n := r.count(11)
	if n == 0 {
		return nil
	}
	list := make([]api.Assignment, n)
	var job, task, label, kind string
	last := api.ID(0)
	for i := range list {
		a := &list[i]
		last += api.ID(r.int())
		a.ID = last
		a.Job, a.Version, a.Task = r.name(&job), r.uint(), r.name(&task)
		a.Slot, a.Desired = uint32(r.small(math.MaxUint32)), api.Desired(r.u8())
		a.Restarts, a.Phase, a.Seq = uint32(r.small(math.MaxUint32)), api.Phase(r.u8()), r.uint()
		if n := r.count(3); n > 0 {
			a.Ports = make([]api.PortBinding, n)
		}
		for k := range a.Ports {
			a.Ports[k] = api.PortBinding{Label: r.name(&label), Host: int(r.int()), To: int(r.int())}
		}
		if n := r.count(3); n > 0 {
			a.Devices = make([]api.DeviceClaim, n)
		}
		for k := range a.Devices {
			a.Devices[k] = api.DeviceClaim{Type: r.name(&kind), ID: r.string(), Share: int(r.int())}
		}
	}
	return list
}

func (w *wireWriter) report(p *api.Report) {
	w.string(p.Node)
	w.uint(p.Incarnation)
	w.bool(p.Ready)
	w.load(p.Load)
	w.uint(uint64(len(p.Statuses)))
	last, started := api.ID(0), int64(0)
	for i := range p.Statuses {
		s := &p.Statuses[i]
		w.int(int64(s.ID - last))
		w.int(s.StartedAt - started) // times are near each other
		last, started = s.ID, s.StartedAt
		w.uint(s.Seq)
		w.uint(uint64(s.Restarts))
		w.u8(uint8(s.Phase))
		w.u8(uint8(s.Failure))
		w.int(int64(s.ExitCode))
		w.u8(s.Signal)
		w.uint(uint64(s.Port))
		w.string(s.Message)
		w.int(s.FinishedAt)
	}
}

func (r *wireReader) report(p *api.Report) {
	p.Node, p.Incarnation, p.Ready, p.Load = r.string(), r.uint(), r.bool(), r.load()
	if n := r.count(11); n > 0 {
		p.Statuses = make([]api.AllocationStatus, n)
	}
	last, started := api.ID(0), int64(0)
	for i := range p.Statuses {
		s := &p.Statuses[i]
		last += api.ID(r.int())
		started += r.int()
		s.ID, s.StartedAt, s.Seq, s.Restarts = last, started, r.uint(), uint32(r.small(math.MaxUint32))
		s.Phase, s.Failure, s.ExitCode = api.Phase(r.u8()), api.Failure(r.u8()), int32(r.int())
		s.Signal, s.Port, s.Message, s.FinishedAt = r.u8(), uint16(r.small(math.MaxUint16)), r.string(), r.int()
	}
}

// health ends reports: whether a status among them has another health than its phase implies, and then that of each. It stands
// at the end, after all statuses, since clients and servers of before there were checks neither write nor read it.
func (w *wireWriter) health(reports []api.Report) {
	told := false
	for i := range reports {
		told = told || slices.ContainsFunc(reports[i].Statuses, func(s api.AllocationStatus) bool { return s.Health != api.ImpliedHealth(s.Phase) })
	}
	w.bool(told)
	for i := range reports {
		for k := range reports[i].Statuses {
			if told {
				w.u8(uint8(reports[i].Statuses[k].Health))
			}
		}
	}
}

func (r *wireReader) health(reports []api.Report) {
	told := r.err == nil && len(r.b) > 0 && r.bool()
	for i := range reports {
		for k := range reports[i].Statuses {
			if s := &reports[i].Statuses[k]; told {
				s.Health = api.HealthStatus(r.u8())
			} else {
				s.Health = api.ImpliedHealth(s.Phase)
			}
		}
	}
}

func encodeReport(p *api.Report) []byte {
	w := newWireWriter(128 + 32*len(p.Statuses))
	w.report(p)
	w.health([]api.Report{*p})
	return w.b
}

func decodeReport(b []byte) (*api.Report, error) {
	r, p := newWireReader(b), new(api.Report)
	r.report(p)
	r.health([]api.Report{*p}) // a copy that shares the statuses
	return p, r.done()
}

func (w *wireWriter) reportAnswer(p *api.ReportAnswer) {
	w.uint(p.Index)
	w.int(int64(p.Spacing))
	w.int(int64(p.LoadEvery))
	w.uint(uint64(len(p.Unknown)))
	for _, id := range p.Unknown {
		w.uint(uint64(id))
	}
}

func (r *wireReader) reportAnswer(p *api.ReportAnswer) {
	p.Index = r.uint()
	p.Spacing, p.LoadEvery = time.Duration(r.int()), time.Duration(r.int())
	if n := r.count(1); n > 0 {
		p.Unknown = make([]api.ID, n)
	}
	for i := range p.Unknown {
		p.Unknown[i] = api.ID(r.uint())
	}
}

func encodeReportAnswer(p *api.ReportAnswer) []byte {
	w := newWireWriter(32)
	w.reportAnswer(p)
	return w.b
}

func decodeReportAnswer(b []byte) (*api.ReportAnswer, error) {
	r, p := newWireReader(b), new(api.ReportAnswer)
	r.reportAnswer(p)
	return p, r.done()
}

func encodeReportBatch(p *api.ReportBatch) []byte {
	size := 16
	for i := range p.Reports {
		size += 64 + 32*len(p.Reports[i].Statuses)
	}
	w := newWireWriter(size)
	w.uint(uint64(len(p.Reports)))
	for i := range p.Reports {
		w.report(&p.Reports[i])
	}
	w.health(p.Reports)
	return w.b
}

func decodeReportBatch(b []byte) (*api.ReportBatch, error) {
	r, p := newWireReader(b), new(api.ReportBatch)
	if n := r.count(5); n > 0 {
		p.Reports = make([]api.Report, n)
	}
	for i := range p.Reports {
		r.report(&p.Reports[i])
	}
	r.health(p.Reports)
	return p, r.done()
}
