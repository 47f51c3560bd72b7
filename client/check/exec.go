package check

import (
	"context"
	"errors"
	"strings"
	"sync"

	"cube/api"
)

// probeExec runs the check's command. Of what it writes the first line is told, where it fails: that is where programs such
// as pg_isready say what is wrong.
func probeExec(ctx context.Context, c *api.Check, run Exec) error {
	if run == nil {
		return errors.New("commands cannot be run in the instance")
	}
	var out head
	code, err := run(ctx, c.Command, &out)
	switch {
	case err != nil:
		return err
	case code == 0:
		return nil
	}
	text := api.ExitText(code, 0)
	if said := out.firstLine(); said != "" {
		text += ": " + said
	}
	return errors.New(text)
}

// head keeps the beginning of what is written to it, by several writers at a time.
type head struct {
	mu   sync.Mutex // guards kept
	kept []byte
}

func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if room := excerptOf - len(h.kept); room > 0 {
		h.kept = append(h.kept, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

// firstLine is the first line that says anything.
func (h *head) firstLine() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for text := range strings.Lines(string(h.kept)) {
		if text = line(text); text != "" {
			return text
		}
	}
	return ""
}
