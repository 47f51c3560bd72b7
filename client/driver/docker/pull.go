package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/pkg/jsonmessage"

	"cube/api"
	"cube/client/driver"
)

// errStalled is why a pull without progress ends.
var errStalled = errors.New("no progress")

// pullImage pulls an image. It fails when nothing moves for pullTimeout; a pull that is slow may take as long as it does.
func (d *Driver) pullImage(ctx context.Context, name string, progress driver.Progress) error {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return failed(true, fmt.Errorf("image %q is not a name of an image: %w", name, err)).err
	}
	stream, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(d.pull, func() { cancel(errStalled) })
	defer stalled.Stop()

	progress("pulling " + name)
	auth, err := registryAuth(stream, named)
	if err != nil {
		d.log.Warn("pulling without credentials", "image", name, "error", err)
	}
	err = d.receive(stream, name, auth, func(message string) {
		stalled.Reset(d.pull)
		if message != "" && ctx.Err() == nil {
			progress(message)
		}
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("pull %s: %w", name, ctx.Err())
	case errors.Is(context.Cause(stream), errStalled):
		return failed(false, fmt.Errorf("pull of image %s made no progress for %v; is the registry %s reachable from here?", name, d.pull, reference.Domain(named))).err
	}
	return pullError(name, err, d.reason(err))
}

// receive reads the engine's report of a pull to its end. moved is called with each sign of life.
func (d *Driver) receive(ctx context.Context, name, auth string, moved func(message string)) error {
	body, err := d.engine.ImagePull(ctx, name, image.PullOptions{RegistryAuth: auth})
	if err != nil {
		return err
	}
	defer body.Close()
	layers := layers{}
	said := ""
	for report := json.NewDecoder(body); ; {
		var m jsonmessage.JSONMessage
		if err := report.Decode(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read how the pull goes: %w", err)
		}
		if m.Error != nil {
			return m.Error
		}
		message := layers.add(name, &m)
		if message == said {
			message = ""
		} else {
			said = message
		}
		moved(message)
	}
}

// layers adds up what the layers of one image report.
type layers map[string]*jsonmessage.JSONProgress

// add takes in a message and says how far the whole image is; "" while no sizes are known.
func (l layers) add(name string, m *jsonmessage.JSONMessage) string {
	if m.Status == "Downloading" && m.Progress != nil && m.Progress.Total > 0 {
		l[m.ID] = m.Progress
	} else if have := l[m.ID]; have != nil && (m.Status == "Download complete" || m.Status == "Pull complete") {
		have.Current = have.Total
	}
	var current, total int64
	for _, p := range l {
		current += p.Current
		total += p.Total
	}
	if total == 0 {
		return ""
	}
	return fmt.Sprintf("pulling %s: %d of %d MiB", name, current/mib, (total+mib-1)/mib)
}

// pullError says in one line why an image is not to be had.
func pullError(name string, err error, text string) error {
	told := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) })
	}
	// Docker Hub does not tell an image that is not there from one that is private.
	missing := errdefs.IsNotFound(err) || told("pull access denied", "manifest unknown", "not found", "repository does not exist")
	denied := errdefs.IsUnauthorized(err) || errdefs.IsPermissionDenied(err) || told("unauthorized", "no basic auth credentials")
	what := "cannot be pulled"
	if missing {
		what = "not found"
	}
	return &driver.StartError{Failure: api.FailureStart, Permanent: missing || denied, Err: fmt.Errorf("image %s %s: %s", name, what, text)}
}
