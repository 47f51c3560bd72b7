package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"cube/api"
)

// maxAnswering bounds the calls of one side that the other is answering. A node has a handful under way; a server that
// forwards for its nodes has hundreds when they all register at once.
const maxAnswering = 8192

// CallFunc does one call: what it is given and what it returns are the method's own affair. Errors travel as
// *api.Error, code and message.
type CallFunc = func(ctx context.Context, method string, body []byte) ([]byte, error)

// reply is what became of a call.
type reply struct {
	body []byte
	err  error
}

// Call asks the other side, whose Handler.Call answers. It ends with the answer, with ctx, whose end the other side
// hears of, or with the session, and then with CodeUnavailable: the other side may or may not have done what was asked.
// The method's name has at most 255 bytes. Serve must run on both sides.
func (s *Session) Call(ctx context.Context, method string, body []byte) ([]byte, error) {
	if len(method) > 255 || 1+len(method)+len(body) > maxFrame {
		return nil, tooLarge(method, len(body))
	}
	answer := make(chan reply, 1)
	number := s.asked.add(answer)
	defer s.asked.take(number)
	if s.ended() {
		return nil, s.Err()
	}
	if err := s.write(frame(frameCall, number, []byte{byte(len(method))}, []byte(method), body)); err != nil {
		return nil, s.Err()
	}
	select {
	case r := <-answer:
		return r.body, r.err
	case <-ctx.Done():
		if s.asked.take(number) != nil {
			_ = s.write(frame(frameCancel, number)) // where it fails the session is over, and the call with it
		}
		return nil, ctx.Err()
	case <-s.done:
	}
	select {
	case r := <-answer: // it came just before the end
		return r.body, r.err
	default:
		return nil, s.Err()
	}
}

// answered hands an answer to the one who waits for it, if anybody still does.
func (s *Session) answered(kind byte, number uint32, body []byte) {
	answer := s.asked.take(number)
	switch {
	case answer == nil:
	case kind == frameAnswer:
		answer <- reply{body: body}
	default:
		code, sentence, _ := bytes.Cut(body, []byte("\n"))
		answer <- reply{err: api.Errorf(api.Code(code), "%s", sentence)}
	}
}

// answer does a call of the other side, in a goroutine that Serve waits for.
func (s *Session) answer(base context.Context, call CallFunc, number uint32, body []byte) error {
	if len(body) == 0 || len(body) < 1+int(body[0]) {
		return fmt.Errorf("%w: a call is cut short", errForeign)
	}
	method, body := string(body[1:1+int(body[0])]), body[1+int(body[0]):]
	ctx, cancel := context.WithCancel(base)
	switch err := s.answering.start(number, cancel); {
	case errors.Is(err, errForeign):
		cancel()
		return err
	case err != nil:
		cancel()
		s.calls.Go(func() { _ = s.write(failure(number, err)) }) // where it fails the session is over
		return nil
	}
	s.calls.Go(func() {
		defer cancel()
		out, err := run(ctx, call, method, body)
		if s.answering.stop(number); ctx.Err() != nil {
			return // nobody waits
		}
		if err == nil && len(out) > maxFrame {
			err = tooLarge(method, len(out))
		}
		f := failure(number, err)
		if err == nil {
			f = frame(frameAnswer, number, out)
		}
		_ = s.write(f) // where it fails the session is over
	})
	return nil
}

// run turns a panic of one call into its failure: the other side's request must not end this agent.
func run(ctx context.Context, call CallFunc, method string, body []byte) (out []byte, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = api.Errorf(api.CodeInternal, "%s failed: %v", method, v)
		}
	}()
	return call(ctx, method, body)
}

// failure is the frame that says why a call failed; none if it did not.
func failure(number uint32, err error) []byte {
	if err == nil {
		return nil
	}
	code := api.CodeOf(err)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		code = api.CodeUnavailable
	}
	return frame(frameFail, number, fmt.Appendf(nil, "%s\n%s", code, oneLine(err.Error())))
}

func noCalls(_ context.Context, method string, _ []byte) ([]byte, error) {
	return nil, api.Errorf(api.CodeNotFound, "this side answers no %s", method)
}
