package api

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Whether a payload comes with a dispatch.
const (
	PayloadOptional  = "optional"
	PayloadRequired  = "required"
	PayloadForbidden = "forbidden"
)

const (
	// MaxPayload bounds a payload in bytes. It is part of the record of the job that it launches, in the log and in the memory of
	// each server: what is larger belongs where the instance fetches it from, and the payload says where that is.
	MaxPayload = 16 << 10
	// MaxUnfinished bounds the jobs that one has launched by dispatches, or has otherwise, and that have not finished. Work that
	// waits in greater number belongs into a queue.
	MaxUnfinished = 1000

	maxDispatchID   = 128 // bytes
	maxDispatchKeys = 64  // of meta
	maxFileName     = 255 // what file systems take
)

// PayloadDirectory is where the payload is inside a container.
const PayloadDirectory = "/dispatch"

// longestDispatched leaves room in a name for eight digits.
const longestDispatched = MaxNameLength - len("-01234567")

// Parameterized says that a job is launched when somebody asks for it, and what is to be said then. For each such dispatch, a job
// of its own does what this one says. The job itself has no instances.
type Parameterized struct {
	Payload      string   // whether one comes with a dispatch
	MetaRequired []string `json:",omitempty"` // keys, sorted
	MetaOptional []string `json:",omitempty"` // keys, sorted
}

// DispatchPayload has the instances of a task find the payload of their dispatch in a file.
type DispatchPayload struct {
	File string // its name, without a directory; CUBE_PAYLOAD_FILE is the path to it
}

// DispatchRequest asks for a job to be launched now: a parameterized one with what it is to be told, or a periodic one.
type DispatchRequest struct {
	Payload []byte            `json:",omitempty"`
	Meta    map[string]string `json:",omitempty"`
	// ID, if set, tells requests apart: what is asked for a second time is not launched again, for as long as the job that was
	// launched the first time is known.
	ID string `json:",omitempty"`
}

// Dispatched is what a job was told that a dispatch has launched.
type Dispatched struct {
	DispatchRequest
	Keys []string `json:",omitempty"` // of the meta that its instances are told, sorted
}

// Dispatches is how people have jobs launched.
type Dispatches interface {
	// DispatchJob launches a parameterized job, or a periodic one at once. The answer names the job that does the work; it is
	// not Changed where the request's ID was given before. CodeConflict when the job is stopped, may not overlap, or has too
	// many unfinished; CodeInvalid for what it does not take.
	DispatchJob(ctx context.Context, name string, r DispatchRequest, w WriteMeta) (*Registered, error)
}

// DispatchEnv returns the variables that tell an instance the meta of the dispatch that launched its job: one for each key that
// the job takes, with the value of the dispatch, or else that of the job's own meta, or else "". It is empty for any other job.
func (j *Job) DispatchEnv() map[string]string {
	if j.Dispatched == nil {
		return nil
	}
	env := map[string]string{}
	for _, key := range j.Dispatched.Keys {
		value, ok := j.Dispatched.Meta[key]
		if !ok {
			value = j.Meta[key]
		}
		env["CUBE_META_"+key] = value
	}
	return env
}

// Same reports whether a request asks for what another one did.
func (r *DispatchRequest) Same(other *DispatchRequest) bool {
	return bytes.Equal(r.Payload, other.Payload) && maps.Equal(r.Meta, other.Meta)
}

// Check says what is wrong with a request, whatever it is for.
func (r *DispatchRequest) Check() error {
	switch {
	case len(r.Payload) > MaxPayload:
		return Errorf(CodeTooLarge, "the payload has %d bytes; at most %d are taken: put it where the task can fetch it, and say where that is", len(r.Payload), MaxPayload)
	case len(r.ID) > maxDispatchID || !printable(r.ID):
		return Errorf(CodeInvalid, "id %.80q has more than %d bytes, or ones that cannot be shown", r.ID, maxDispatchID)
	}
	if err := checkPairs("meta", r.Meta); err != nil {
		return Errorf(CodeInvalid, "%w", err)
	}
	for _, key := range sortedKeys(r.Meta) {
		if strings.ContainsRune(r.Meta[key], 0) {
			return Errorf(CodeInvalid, "meta %s holds a NUL, which no variable can", key)
		}
	}
	return nil
}

// Dispatchable says why the job cannot be launched with a request. The state decides by it when entries of the log are applied,
// so what it takes stays taken.
func (j *Job) Dispatchable(r *DispatchRequest) error {
	if err := r.Check(); err != nil {
		return err
	}
	p := j.Parameterized
	switch {
	case !j.Launches():
		return Errorf(CodeInvalid, "job %.80q is neither parameterized nor periodic: it runs already", j.Name)
	case j.Stopped:
		return Errorf(CodeConflict, "job %.80q is stopped; run it again first", j.Name)
	case p == nil && len(r.Payload)+len(r.Meta) > 0:
		return Errorf(CodeInvalid, "job %.80q is periodic: it is launched as it is, with no payload and no meta", j.Name)
	case p == nil:
		return nil
	case p.Payload == PayloadForbidden && len(r.Payload) > 0:
		return Errorf(CodeInvalid, "job %.80q takes no payload", j.Name)
	case p.Payload == PayloadRequired && len(r.Payload) == 0:
		return Errorf(CodeInvalid, "job %.80q wants a payload, and there is none", j.Name)
	}
	for _, key := range sortedKeys(r.Meta) {
		if keys := p.keys(); !slices.Contains(keys, key) {
			return Errorf(CodeInvalid, "job %.80q takes no meta %.80q; it takes %s", j.Name, key, orNone(keys))
		}
	}
	missing := slices.DeleteFunc(slices.Clone(p.MetaRequired), func(key string) bool { _, ok := r.Meta[key]; return ok })
	if len(missing) > 0 {
		return Errorf(CodeInvalid, "job %.80q wants meta %s, and there is none", j.Name, strings.Join(missing, ", "))
	}
	return nil
}

// Dispatch returns what a job is told that is launched with a request which the job takes.
func (j *Job) Dispatch(r *DispatchRequest) *Dispatched {
	d := &Dispatched{DispatchRequest: *r}
	if j.Parameterized != nil {
		d.Keys = j.Parameterized.keys()
	}
	return d
}

func orNone(keys []string) string {
	if len(keys) == 0 {
		return "none"
	}
	return strings.Join(keys, ", ")
}

// keys are those of the meta that a dispatch may have, sorted.
func (p *Parameterized) keys() []string {
	return slices.Sorted(slices.Values(slices.Concat(p.MetaRequired, p.MetaOptional)))
}

func (p *Parameterized) canonicalize() {
	if p.Payload == "" {
		p.Payload = PayloadOptional
	}
	slices.Sort(p.MetaRequired)
	slices.Sort(p.MetaOptional)
}

// validateParameterized checks what a job says of its dispatches.
func (j *Job) validateParameterized() error {
	p := j.Parameterized
	if p == nil {
		return j.validatePayloadFiles()
	}
	var err error
	switch {
	case j.Periodic != nil:
		err = faultf("", "parameterized and periodic contradict each other; a periodic job can be dispatched, too, as it is")
	case !j.Type.Completes():
		err = faultf("", "parameterized is for batch and sysbatch jobs: a %s job runs until it is stopped", j.Type)
	case len(j.Name) > longestDispatched:
		err = faultf("", "the name of a parameterized job has at most %d characters: the jobs it launches have eight digits at the end of theirs", longestDispatched)
	case !slices.Contains([]string{PayloadOptional, PayloadRequired, PayloadForbidden}, p.Payload):
		err = faultf("payload", "payload %.40q is none of optional, required, forbidden", p.Payload)
	case len(p.MetaRequired)+len(p.MetaOptional) > maxDispatchKeys:
		err = faultf("", "%d keys of meta are more than %d", len(p.MetaRequired)+len(p.MetaOptional), maxDispatchKeys)
	}
	seen := map[string]bool{}
	for list, keys := range [2][]string{p.MetaRequired, p.MetaOptional} {
		name := [2]string{"meta_required", "meta_optional"}[list]
		for _, key := range keys {
			switch {
			case err != nil:
			case !endsVariable(key):
				err = faultf(name, "%s: %.80q cannot be the end of a variable's name, as in CUBE_META_size: use letters, digits and _", name, key)
			case seen[key]:
				err = faultf(name, "%s: %.80q is there twice", name, key)
			}
			seen[key] = true
		}
	}
	if err != nil {
		return in("parameterized", err)
	}
	return j.validatePayloadFiles()
}

// endsVariable reports whether a shell knows a variable that ends so.
func endsVariable(key string) bool {
	return key != "" && len(key) <= MaxNameLength && !strings.ContainsFunc(key, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// validatePayloadFiles checks where the tasks want the payload.
func (j *Job) validatePayloadFiles() error {
	for _, t := range j.Tasks {
		if t == nil || t.DispatchPayload == nil {
			continue
		}
		if err := t.validatePayloadFile(j.Parameterized); err != nil {
			return in(fmt.Sprintf("task %q", t.Name), in("dispatch_payload", err))
		}
	}
	return nil
}

func (t *Task) validatePayloadFile(p *Parameterized) error {
	file := t.DispatchPayload.File
	switch {
	case p == nil:
		return faultf("", "dispatch_payload is for the tasks of a parameterized job: no payload ever comes to this one")
	case p.Payload == PayloadForbidden:
		return faultf("", "dispatch_payload has no meaning where parameterized says payload = %q", PayloadForbidden)
	case file == "":
		return faultf("file", "file is missing: say what the file with the payload is to be called")
	case strings.Contains(file, "/") || file == "." || file == ".." || len(file) > maxFileName || !printable(file):
		return faultf("file", "file %.80q is not the name of a file: give one without a directory", file)
	}
	if t.Driver == "raw_exec" && t.User != "" {
		return faultf("", "a raw_exec task with a user cannot read the payload: the agent's directory is not that user's to enter; leave user out")
	}
	for i := range t.Volumes {
		if v := &t.Volumes[i]; v.Destination == PayloadDirectory {
			return faultf("", "the payload is put into %s, which volume %q has already", PayloadDirectory, v.Name)
		}
	}
	if d := t.EphemeralDisk; d != nil && d.Destination == PayloadDirectory {
		return faultf("", "the payload is put into %s, which ephemeral_disk has already", PayloadDirectory)
	}
	return nil
}
