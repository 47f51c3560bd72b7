package api

import (
	"errors"
	"fmt"
)

// Code classifies an Error for machines. The HTTP status follows from it (see Code.HTTPStatus).
type Code string

const (
	CodeInvalid      Code = "invalid"       // the request is wrong and will be wrong again
	CodeNotFound     Code = "not_found"     // what was named does not exist
	CodeAmbiguous    Code = "ambiguous"     // an ID prefix names several things
	CodeConflict     Code = "conflict"      // the state moved on, or the same request ID came with another body
	CodeTooLarge     Code = "too_large"     // a body or value is over its limit
	CodeBusy         Code = "busy"          // a queue is full; try again
	CodeNoLeader     Code = "no_leader"     // no leader within the wait; nothing was written
	CodeNotLeader    Code = "not_leader"    // this server does not lead; nothing was written
	CodeUnknown      Code = "unknown"       // leadership was lost while writing: the write may or may not have happened
	CodeUnavailable  Code = "unavailable"   // a node or server that is needed cannot be reached
	CodeForbidden    Code = "forbidden"     // refused by configuration
	CodeNotYet       Code = "not_supported" // understood, but this version of Cube does not do it
	CodeInternal     Code = "internal"      // a fault of ours; the message says what was being attempted
	CodeTooOld       Code = "too_old"       // what was asked for is not kept any more
	CodeIncompatible Code = "incompatible"  // a newer format or protocol than this binary speaks
)

// HTTPStatus is the status an HTTP answer with this code carries.
func (c Code) HTTPStatus() int {
	switch c {
	case CodeInvalid, CodeAmbiguous, CodeNotYet:
		return 400
	case CodeForbidden:
		return 403
	case CodeNotFound:
		return 404
	case CodeConflict:
		return 409
	case CodeTooOld:
		return 410
	case CodeTooLarge:
		return 413
	case CodeBusy:
		return 429
	case CodeNoLeader, CodeNotLeader, CodeUnavailable, CodeUnknown:
		return 503
	default:
		return 500
	}
}

// Error is what Cube answers when it cannot do what was asked: a code for machines and one sentence for people, lower
// case and without a full stop, that says what is wrong and, where it is known, what to do. It travels as JSON.
type Error struct {
	Code    Code
	Message string

	cause error // wrapped for errors.Is and errors.As on this side of the wire only
}

// Errorf makes an Error. Each %w in the format wraps its operand.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	e := &Error{Code: code, Message: err.Error(), cause: errors.Unwrap(err)}
	if _, several := err.(interface{ Unwrap() []error }); several { // which errors.Unwrap does not see
		e.cause = err
	}
	return e
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause, nil when there is none or the error came over the wire.
func (e *Error) Unwrap() error { return e.cause }

// CodeOf returns the code of the first Error in err's chain, CodeInternal for any other error and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}

// NothingWritten reports whether err says that a write certainly did not happen, so that it may be sent again as is.
func NothingWritten(err error) bool {
	switch CodeOf(err) {
	case CodeNotLeader, CodeNoLeader, CodeBusy:
		return true
	}
	return false
}
