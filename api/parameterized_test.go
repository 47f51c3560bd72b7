package api

import (
	"fmt"
	"maps"
	"strings"
	"testing"
)

func resizeJob(change func(*Job)) *Job {
	t := DefaultTask("resize")
	t.Image = "resize"
	j := &Job{Name: "resize", Type: JobBatch, Priority: DefaultPriority, Tasks: []*Task{t}, Meta: map[string]string{"speed": "slow", "owner": "ada"},
		Parameterized: &Parameterized{MetaRequired: []string{"width", "height"}, MetaOptional: []string{"speed", "note"}}}
	change(j)
	j.Canonicalize()
	return j
}

func unchangedJob(*Job) {}

// TestWhatIsDispatched: each fault of a request is one clear line; the rest is taken.
func TestWhatIsDispatched(t *testing.T) {
	size := map[string]string{"width": "3", "height": "4"}
	with := func(key, value string) map[string]string {
		m := maps.Clone(size)
		m[key] = value
		return m
	}
	payload := func(how string) func(*Job) { return func(j *Job) { j.Parameterized.Payload = how } }
	periodic := func(j *Job) {
		j.Parameterized, j.Periodic = nil, &Periodic{Crons: []string{"@daily"}}
	}
	for _, c := range []struct {
		change  func(*Job)
		request DispatchRequest
		want    string // the beginning of the refusal, after its code; "" for none
	}{
		{unchangedJob, DispatchRequest{Meta: size}, ""},
		{unchangedJob, DispatchRequest{Meta: with("speed", "fast"), Payload: []byte("x"), ID: "one"}, ""},
		{unchangedJob, DispatchRequest{}, `invalid job "resize" wants meta height, width, and there is none`},
		{unchangedJob, DispatchRequest{Meta: map[string]string{"width": "3"}}, `invalid job "resize" wants meta height, and`},
		{unchangedJob, DispatchRequest{Meta: with("colour", "red")}, `invalid job "resize" takes no meta "colour"; it takes height, note, speed, width`},
		{unchangedJob, DispatchRequest{Meta: with("speed", "\x00")}, `invalid meta speed holds a NUL`},
		{unchangedJob, DispatchRequest{Meta: with("note", strings.Repeat("x", 1<<20))}, `invalid meta: note takes at most`},
		{unchangedJob, DispatchRequest{Meta: size, Payload: make([]byte, MaxPayload)}, ""},
		{unchangedJob, DispatchRequest{Meta: size, Payload: make([]byte, MaxPayload+1)}, `too_large the payload has 16385 bytes; at most 16384 are taken`},
		{unchangedJob, DispatchRequest{Meta: size, ID: strings.Repeat("x", 129)}, `invalid id "xxxx`},
		{unchangedJob, DispatchRequest{Meta: size, ID: "a\nb"}, `invalid id "a\nb" has more than 128 bytes, or ones that cannot be shown`},
		{payload(PayloadRequired), DispatchRequest{Meta: size}, `invalid job "resize" wants a payload, and there is none`},
		{payload(PayloadRequired), DispatchRequest{Meta: size, Payload: []byte{0}}, ""},
		{payload(PayloadForbidden), DispatchRequest{Meta: size, Payload: []byte{0}}, `invalid job "resize" takes no payload`},
		{payload(PayloadForbidden), DispatchRequest{Meta: size}, ""},
		{func(j *Job) { j.Stopped = true }, DispatchRequest{Meta: size}, `conflict job "resize" is stopped; run it again first`},
		{func(j *Job) { j.Parameterized = nil }, DispatchRequest{}, `invalid job "resize" is neither parameterized nor periodic`},
		{func(j *Job) { j.Parameterized = &Parameterized{} }, DispatchRequest{Meta: size}, `invalid job "resize" takes no meta "height"; it takes none`},
		{func(j *Job) { j.Type = JobSysbatch }, DispatchRequest{Meta: size}, ""},
		{periodic, DispatchRequest{}, ""},
		{periodic, DispatchRequest{ID: "one"}, ""},
		{periodic, DispatchRequest{Meta: size}, `invalid job "resize" is periodic: it is launched as it is`},
		{periodic, DispatchRequest{Payload: []byte{0}}, `invalid job "resize" is periodic: it is launched as it is`},
	} {
		j := resizeJob(c.change)
		if err := j.Validate(); err != nil {
			t.Fatal(err)
		}
		err, got := j.Dispatchable(&c.request), ""
		if err != nil {
			got = fmt.Sprintf("%s %s", CodeOf(err), err)
		}
		if c.want == "" && got != "" || !strings.HasPrefix(got, c.want) || strings.Contains(got, "\n") {
			t.Errorf("%.80q: got %.120q, want %q", fmt.Sprint(c.request), got, c.want)
		}
	}
}

// TestWhatAnInstanceIsTold: what came with the dispatch, or else what the job's own meta says, or else nothing; and nothing of the meta
// that is not for it.
func TestWhatAnInstanceIsTold(t *testing.T) {
	j := resizeJob(unchangedJob)
	if got := j.DispatchEnv(); len(got) != 0 {
		t.Errorf("what was not dispatched is told %v", got)
	}
	j.Dispatched = j.Dispatch(&DispatchRequest{Meta: map[string]string{"width": "3", "height": ""}})
	want := map[string]string{"CUBE_META_width": "3", "CUBE_META_height": "", "CUBE_META_speed": "slow", "CUBE_META_note": ""}
	if got := j.DispatchEnv(); !maps.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
}

// TestAParameterizedJobIsRefused are the faults that no task file can have, or that tests of it do not show.
func TestAParameterizedJobIsRefused(t *testing.T) {
	for want, change := range map[string]func(*Job){
		`parameterized: the name of a parameterized job has at most 54 characters`:  func(j *Job) { j.Name = strings.Repeat("x", 55) },
		`parameterized: 65 keys of meta are more than 64`:                           func(j *Job) { j.Parameterized.MetaRequired = make([]string, 63) },
		`meta_required: "" cannot be the end of a variable's name`:                  func(j *Job) { j.Parameterized.MetaRequired = []string{""} },
		`meta_required: "größe" cannot be the end of a variable's name`:             func(j *Job) { j.Parameterized.MetaRequired = []string{"größe"} },
		`task "resize": dispatch_payload: the payload is put into /dispatch, which`: payloadBeside,
		`dispatch_payload: a raw_exec task with a user cannot read the payload`:     payloadOfUser,
	} {
		if err := resizeJob(change).Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func payloadBeside(j *Job) {
	j.Tasks[0].DispatchPayload = &DispatchPayload{File: "x"}
	j.Tasks[0].EphemeralDisk = &EphemeralDisk{Destination: PayloadDirectory}
}

func payloadOfUser(j *Job) {
	j.Tasks[0].DispatchPayload = &DispatchPayload{File: "x"}
	j.Tasks[0].Driver, j.Tasks[0].Image, j.Tasks[0].Command, j.Tasks[0].User = "raw_exec", "", "/bin/true", "nobody"
}
