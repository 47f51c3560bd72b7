package fsm

import (
	"crypto/sha256"

	"github.com/tidwall/btree"

	"cube/api"
)

// request is a public mutation that was done, so that the same request coming again has no second effect.
type request struct {
	index      uint64 // its order, since an entry is at most one request
	id         string
	body       [sha256.Size]byte
	registered []RegisteredJob
	evaluation api.ID
}

// rememberedRequests is how many are kept: more than come in within the time in which somebody still tries again.
const rememberedRequests = 1 << 16

// maxRequestID bounds a request's ID in bytes.
const maxRequestID = 64

type requestTable struct{ rows *btree.BTreeG[*request] }

func newRequestTable() requestTable {
	return requestTable{newTree(func(a, b *request) bool { return a.index < b.index })}
}

func (t *requestTable) copy() requestTable { return requestTable{t.rows.Copy()} }

// recall returns the first result of a request that was done before, nil for a new one, and the hash of its body.
func (s *state) recall(c *Command) (*Result, [sha256.Size]byte, error) {
	var hash [sha256.Size]byte
	if c.RequestID == "" || c.Body == nil {
		return nil, hash, nil
	}
	if len(c.RequestID) > maxRequestID {
		return nil, hash, api.Errorf(api.CodeInvalid, "the request ID has %d bytes: give at most %d", len(c.RequestID), maxRequestID)
	}
	body, err := encodeBody(c.Body)
	if err != nil {
		return nil, hash, api.Errorf(api.CodeInvalid, "request %q: %w", c.RequestID, err)
	}
	hash = sha256.Sum256(append([]byte{byte(c.Body.kind())}, body...))
	first, ok := s.replies[c.RequestID]
	switch {
	case !ok:
		return nil, hash, nil
	case first.body != hash:
		return nil, hash, api.Errorf(api.CodeConflict, "request ID %q was used before for something else", c.RequestID)
	}
	return &Result{Index: first.index, Registered: first.registered, Evaluation: first.evaluation, Replayed: true}, hash, nil
}

// remember keeps the result of a request that was done. A refusal changed nothing and is not kept: trying again, when
// what stood in the way is gone, is what the request ID is for.
func (s *state) remember(c *Command, body [sha256.Size]byte, r Result) {
	if c.RequestID == "" {
		return
	}
	s.keepRequest(&request{index: s.index, id: c.RequestID, body: body, registered: r.Registered, evaluation: r.Evaluation})
	if s.requests.rows.Len() > rememberedRequests {
		oldest, _ := s.requests.rows.PopMin()
		delete(s.replies, oldest.id)
	}
}

func (s *state) keepRequest(q *request) {
	s.requests.rows.Set(q)
	s.replies[q.id] = q
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
