package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cube/api"
	"cube/internal/hello/helloimage"
)

// resize is a parameterized job whose instance prints the payload and what it was told.
const resize = `
job "resize" {
  type = "batch"

  parameterized {
    payload       = "required"
    meta_required = ["size"]
    meta_optional = ["quality"]
  }

  meta {
    quality = 80
  }

  task "resize" {
    image = %q
    args  = ["-listen", "none", "-exit-after", "0s", "-print", "${CUBE_PAYLOAD_FILE}", "-show", "size=${CUBE_META_size}"]

    dispatch_payload {
      file = "photo.json"
    }
  }
}
`

// TestDispatch: a parameterized job runs nothing by itself; each dispatch is a job of its own, whose instance has the payload in a
// file and the meta in its environment; what the job does not take is refused; a request with a name is launched once, also
// across the death of the only server.
func TestDispatch(t *testing.T) {
	f := newAlone(t, "127.0.9.91")
	file, photo := write(t, "resize.hcl", fmt.Sprintf(resize, helloimage.Tag)), write(t, "photo.json", `{"photo": 17}`+"\n")
	f.says(1, `'cube task dispatch resize' launches it`, "task", "plan", file)
	f.says(0, `nothing of it runs until 'cube task dispatch resize -meta size=... -payload FILE' launches it`, "task", "run", file)
	f.says(1, `nothing of it was launched yet`, "task", "logs", "resize")

	// Bad requests change nothing.
	large := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(large, make([]byte, api.MaxPayload+1), 0o600); err != nil {
		t.Fatal(err)
	}
	f.says(1, `job "resize" wants meta size, and there is none`, "task", "dispatch", "-payload", photo, "resize")
	f.says(1, `job "resize" wants a payload, and there is none`, "task", "dispatch", "-meta", "size=800", "resize")
	f.says(1, `job "resize" takes no meta "colour"; it takes quality, size`, "task", "dispatch", "-payload", photo, "-meta", "size=800", "-meta", "colour=red", "resize")
	f.says(1, `it is over 16 KiB, more than a payload may have`, "task", "dispatch", "-payload", large, "-meta", "size=800", "resize")
	f.says(1, `there is no job "none"`, "task", "dispatch", "none")
	if _, err := f.up().DispatchJob(t.Context(), "resize", api.DispatchRequest{Payload: make([]byte, api.MaxPayload+1), Meta: map[string]string{"size": "1"}}, api.WriteMeta{}); api.CodeOf(err) != api.CodeTooLarge {
		t.Errorf("the API takes a payload that is too large: %v", err)
	}

	out := f.says(0, "is complete", "task", "dispatch", "-payload", photo, "-meta", "size=800", "resize")
	name := strings.Split(out, `"`)[1]
	f.says(0, `{"photo": 17}`, "task", "logs", name)
	logs := f.says(0, `The output of `+name+`, which was launched last`, "task", "logs", "resize")
	for _, want := range []string{`"size=800"`, `"CUBE_META_size":"800"`, `"CUBE_META_quality":"80"`, `"CUBE_PAYLOAD_FILE":"/dispatch/photo.json"`} {
		if !strings.Contains(logs, want) {
			t.Errorf("the instance does not see %s:\n%s", want, logs)
		}
	}
	f.says(0, "size=800, a payload of 14 bytes", "task", "status", name)

	// Once, whoever asks again.
	again := func(want string) string {
		t.Helper()
		return strings.TrimSpace(f.says(0, want, "task", "dispatch", "-detach", "-id", "photo-17", "-payload", photo, "-meta", "size=640", "resize"))
	}
	first := again("resize-")
	f.servers[0].end(t, syscall.SIGKILL)
	f.servers[0].start(t)
	f.eventually("the server answers again", 20*time.Second, func() error { return f.nodesReady(1) })
	if second := again("was launched with this id before"); !strings.Contains(second, first) {
		t.Errorf("it was launched as %s, and then as %s", first, second)
	}
	f.says(1, `id "photo-17" was used before for something else`, "task", "dispatch", "-id", "photo-17", "-payload", photo, "-meta", "size=1", "resize")
	f.eventually("both are complete", 15*time.Second, func() error {
		_, out := f.cube("task", "status", "resize")
		if !strings.Contains(out, "Launched: 2 complete") {
			return fmt.Errorf("it says:\n%s", out)
		}
		return nil
	})
	told := f.says(0, "launched "+name+" by ", "task", "timeline", "resize")
	if !strings.Contains(told, `: dispatched as "photo-17", meta size`) || strings.Count(told, " launched ") != 2 {
		t.Errorf("the timeline says\n%s", told)
	}

	// A failing one is told by the exit code; a stopped parent launches nothing.
	broken := strings.Replace(fmt.Sprintf(resize, helloimage.Tag), `dispatch_payload {`, `restart {
      attempts = 0
      mode     = "fail"
    }
    reschedule {
      attempts = 0
    }
    dispatch_payload {`, 1)
	f.says(0, "version 2 is registered", "task", "run", write(t, "resize.hcl", strings.Replace(broken, `"0s"`, `"0s", "-exit-code", "3"`, 1)))
	f.says(2, "has failed", "task", "dispatch", "-payload", photo, "-meta", "size=800", "resize")
	f.says(0, "", "task", "stop", "resize")
	f.says(1, `job "resize" is stopped; run it again first`, "task", "dispatch", "-payload", photo, "-meta", "size=800", "resize")
}

// TestAPeriodicJobNow: a job for one day in four years is launched at once, runs, and is seen; not twice at a time where it prohibits that.
func TestAPeriodicJobNow(t *testing.T) {
	f := newAlone(t, "127.0.9.92")
	f.says(0, "it is launched first at 2028-02-29 02:30 UTC", "task", "run", write(t, "backup.hcl", fmt.Sprintf(`
task "backup" {
  type  = "batch"
  image = %q
  args  = ["-listen", "none", "-exit-after", "4s", "-lines", "1"]
  periodic {
    crons            = ["30 2 29 2 *"]
    prohibit_overlap = true
  }
}
`, helloimage.Tag)))
	name := strings.TrimSpace(f.says(0, "backup-", "task", "dispatch", "-detach", "backup"))
	f.says(1, name+" still runs, and it prohibits an overlap", "task", "dispatch", "backup")
	f.says(1, `job "backup" is periodic: it is launched as it is`, "task", "dispatch", "-meta", "a=b", "backup")
	f.eventually("it has run", 20*time.Second, func() error {
		status, _, err := f.up().Job(t.Context(), "backup", api.Query{})
		if err == nil && (status.Launches.Counts[api.JobComplete] != 1 || status.Summary.Status != api.JobWaiting) {
			text, _ := json.Marshal(status.Launches)
			err = fmt.Errorf("it is %s", text)
		}
		return err
	})
	f.says(0, "out 1", "task", "logs", "backup")
	f.says(1, `job "backup" has no instances: restart one that it has launched`, "task", "restart", "backup")
	f.says(0, "2028-02-29 02:30 UTC", "task", "status", "backup")
	f.says(0, "is complete", "task", "dispatch", "backup")
	if _, out := f.cube("task", "status", "backup"); !strings.Contains(out, "Launched: 2 complete") || !strings.Contains(out, name) {
		t.Errorf("its status is:\n%s", out)
	}
}

// TestAPayloadOfAProcess: a process of the node reads the payload in the allocation's directory.
func TestAPayloadOfAProcess(t *testing.T) {
	f := newAlone(t, "127.0.9.93", "-config", write(t, "agent.hcl", "client {\n  raw_exec = true\n}\n"))
	f.says(0, "nothing of it runs until", "task", "run", write(t, "shout.hcl", `
task "shout" {
  type    = "sysbatch"
  driver  = "raw_exec"
  command = "/bin/sh"
  args    = ["-c", "tr a-z A-Z < $CUBE_PAYLOAD_FILE; echo \"[$CUBE_META_note]\""]
  parameterized {
    meta_optional = ["note"]
  }
  dispatch_payload {
    file = "words"
  }
}
`))
	f.says(0, "is complete", "task", "dispatch", "-payload", write(t, "words", "hello\n"), "shout")
	if out := f.says(0, "HELLO", "task", "logs", "shout"); !strings.Contains(out, "[]") {
		t.Errorf("a meta key that was not given is not empty:\n%s", out)
	}
	f.says(0, "is complete", "task", "dispatch", "-meta", "note=loud", "shout")
	if out := f.says(0, "[loud]", "task", "logs", "shout"); strings.Contains(out, "HELLO") {
		t.Errorf("a payload that was not given is not empty:\n%s", out)
	}
}
