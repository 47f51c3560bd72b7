package command

import (
	"context"
	"fmt"
	"io"

	"cube/api"
)

// output is one instance's output as it is copied to a person.
type output struct {
	*session
	cluster api.Cluster
	id      string // of the allocation
	name    string // web[0]
	request api.LogRequest
	to      io.Writer
	// resume makes of a request that broke off one for the rest. whole is false where something may be missing between.
	resume func(r api.LogRequest) (rest api.LogRequest, whole bool)
	told   bool // the person knows that it has ended
	flowed bool // something of it came since it was last opened
}

// withGap is resume where nothing is known of the lines that were shown.
func withGap(r api.LogRequest) (api.LogRequest, bool) {
	r.Tail = 0
	return r, false
}

// copy copies the output once. broke is why it came to no end, where trying again may help; err is any other failure.
func (o *output) copy(ctx context.Context) (broke, err error) {
	body, err := o.cluster.Logs(ctx, o.id, o.request)
	if err != nil {
		if unreachable(err) {
			return err, nil
		}
		return nil, err
	}
	defer body.Close()
	in := &sourceReader{Reader: body}
	n, err := io.Copy(o.to, in)
	o.flowed = n > 0
	if in.err != nil {
		return in.err, nil
	} else if err != nil {
		return nil, err
	}
	return nil, nil
}

// follow copies the output until the instance ends. What carries it may fall while the instance runs on: the server that
// passes it on, or the agent of its node. So a stream that breaks off is opened again, until the instance is known to
// have ended.
func (o *output) follow(ctx context.Context) error {
	silent := false
	for {
		broke, err := o.copy(ctx)
		if broke == nil || ctx.Err() != nil {
			return err
		}
		rest, whole := o.resume(o.request)
		o.request = rest
		if !silent || o.flowed { // it breaks off for the first time, or again
			gap := ""
			if !whole {
				gap = ", and what is written meanwhile is not shown"
			}
			o.remark("%s: the output broke off (%s); it is followed again as soon as it can be"+gap, printable(broke.Error()))
			silent = true
		}
		o.flowed = false
		a, _, err := o.cluster.Allocation(ctx, o.id, api.Query{Stale: true})
		if err == nil && a.Phase.Terminal() {
			o.told = true
			o.remark("%s: it has ended meanwhile; what is kept of its output shows 'cube alloc logs %s'", moments{}.id(o.id))
			return nil
		}
		if pause(ctx, watchPause) != nil {
			return nil
		}
	}
}

// remark says something of the instance beside its output. format begins with a verb for its name.
func (o *output) remark(format string, args ...any) {
	fmt.Fprintf(o.Stderr, format+"\n", append([]any{printable(o.name)}, args...)...)
}

// sourceReader keeps why reading ended, so that it is told apart from a failure to write.
type sourceReader struct {
	io.Reader
	err error
}

func (r *sourceReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}
