package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"

	"github.com/hashicorp/go-msgpack/v2/codec"

	"cube/api"
)

// maxMachineBody bounds a body that servers and nodes exchange over HTTP: stats, pings.
const maxMachineBody = 1 << 20

const contentType = "application/x-msgpack"

// handle is made anew for each use: a codec.Handle must not be changed after its first use and the package keeps no
// mutable state; making one is a few stores.
func handle() *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{WriteExt: true}
	h.MapType = reflect.TypeFor[map[string]any]() // a task's config block, as JSON would give it
	h.RawToString = true
	return h
}

func encode(v any) ([]byte, error) {
	var b []byte
	err := codec.NewEncoderBytes(&b, handle()).Encode(v)
	return b, err
}

func decode(b []byte, v any) error { return codec.NewDecoderBytes(b, handle()).Decode(v) }

// EncodeJob encodes a job for JobSpec.Body: all that running it takes, so without the text it was parsed from.
func EncodeJob(j *api.Job) ([]byte, error) {
	lean := *j
	lean.Source = nil
	b, err := encode(&lean)
	if err != nil {
		return nil, fmt.Errorf("encode job %q: %w", j.Name, err)
	}
	return b, nil
}

// DecodeJob reads what EncodeJob wrote.
func DecodeJob(b []byte) (*api.Job, error) {
	j := new(api.Job)
	if err := decode(b, j); err != nil {
		return nil, fmt.Errorf("decode a job: %w", err)
	}
	return j, nil
}

// exchange makes a handler of one machine method: a msgpack body in, a msgpack body out.
func exchange[In, Out any](f func(ctx context.Context, in *In) (*Out, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMachineBody))
		if err != nil {
			var tooLarge *http.MaxBytesError
			if errors.As(err, &tooLarge) {
				err = api.Errorf(api.CodeTooLarge, "%s: the body has more than %d bytes", r.URL.Path, maxMachineBody)
			}
			writeError(w, err)
			return
		}
		in := new(In)
		if err := decode(b, in); err != nil {
			writeError(w, api.Errorf(api.CodeInvalid, "%s: the body cannot be read: %w", r.URL.Path, err))
			return
		}
		out, err := f(r.Context(), in)
		if err != nil {
			writeError(w, err)
			return
		}
		answer, err := encode(out)
		if err != nil {
			writeError(w, fmt.Errorf("encode the answer of %s: %w", r.URL.Path, err))
			return
		}
		w.Header().Set("Content-Type", contentType)
		w.Write(answer) // the peer may be gone; there is nobody left to tell
	}
}

// machine is a client of machine methods over a session's transport.
type machine struct{ http *http.Client }

func call[In, Out any](ctx context.Context, m machine, path string, in *In) (*Out, error) {
	b, err := encode(in)
	if err != nil {
		return nil, fmt.Errorf("encode the request to %s: %w", path, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://cube"+path, bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("make the request to %s: %w", path, err)
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := m.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, api.Errorf(api.CodeUnavailable, "call %s: %w", path, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return nil, answerError(resp, "the other side")
	}
	b, err = io.ReadAll(io.LimitReader(resp.Body, maxMachineBody))
	if err != nil {
		return nil, api.Errorf(api.CodeUnavailable, "read the answer of %s: %w", path, err)
	}
	out := new(Out)
	if err := decode(b, out); err != nil {
		return nil, fmt.Errorf("decode the answer of %s: %w", path, err)
	}
	return out, nil
}
