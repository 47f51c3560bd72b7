package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"cube/api"
)

func newSnapshotSave(m *Meta) *command {
	return &command{
		meta: m, name: "operator snapshot save", args: "<file>", min: 1, max: 1, predict: predictFiles,
		synopsis: "Save the cluster's state to a file",
		prose:    "Writes everything the servers have agreed on to a file; - is standard output. The file appears only when it is whole and safely on disk. It holds the variables and env values of jobs: keep it as a secret.",
		example:  "$ cube operator snapshot save cube.snap",
		run: func(ctx context.Context, s *session, args []string) error {
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			body, err := cluster.SaveSnapshot(ctx)
			if err != nil {
				return failed(err, "saving a snapshot")
			}
			defer body.Close()
			if args[0] == "-" {
				if _, err := io.Copy(s.Stdout, body); err != nil {
					return failed(err, "saving a snapshot")
				}
				return nil
			}
			n, err := saveFile(args[0], body)
			if err != nil {
				return failed(err, "saving a snapshot to %q", args[0])
			}
			fmt.Fprintf(s.Stdout, "Saved the cluster's state to %s (%d bytes)\n", printable(args[0]), n)
			return nil
		},
	}
}

// saveFile writes body to path through a file beside it, so that path never holds a part. What is there already and is
// not a plain file, such as /dev/null, is left alone: the file would take its place.
func saveFile(path string, body io.Reader) (int64, error) {
	switch info, err := os.Stat(path); {
	case err == nil && info.IsDir():
		return 0, errIsDirectory
	case err == nil && !info.Mode().IsRegular():
		return 0, errors.New("it is not a plain file; name another, or - for standard output")
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".cube-snapshot-*") // 0600: a snapshot holds secrets
	if err != nil {
		return 0, plainPathError(err)
	}
	defer os.Remove(tmp.Name()) // fails after the rename, as it should
	n, err := io.Copy(tmp, body)
	if err == nil {
		err = tmp.Sync()
	}
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	return n, err
}

func newSnapshotRestore(m *Meta) *command {
	var yes bool
	return &command{
		meta: m, name: "operator snapshot restore", args: "<file>", min: 1, max: 1, predict: predictFiles, reads: true,
		synopsis: "Replace the cluster's state by a file's",
		prose:    "Replaces everything the servers have agreed on by what a snapshot says; - is standard input. A damaged snapshot, or one of a newer format, is refused and nothing is changed. What was agreed on after the snapshot is lost.",
		example:  "$ cube operator snapshot restore cube.snap",
		flags:    func(f *flag.FlagSet) { f.BoolVar(&yes, "yes", false, "Do not ask.") },
		run: func(ctx context.Context, s *session, args []string) error {
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			open := func() (io.ReadCloser, error) { return io.NopCloser(s.Stdin), nil }
			if args[0] != "-" {
				open = func() (io.ReadCloser, error) { return openFile(args[0]) }
			}
			body, err := open()
			if err != nil {
				return failed(err, "reading snapshot %q", args[0])
			}
			defer body.Close()
			if err := s.confirm(yes, "Replace the state of the cluster?"); err != nil {
				return failed(err, "restoring %q", args[0])
			}
			// Sent once: a restore of which nobody knows whether it happened is for a person to judge.
			if err := cluster.RestoreSnapshot(ctx, body, api.WriteMeta{RequestID: newRequestID(), Who: s.who()}); err != nil {
				return failed(err, "restoring %q", args[0])
			}
			fmt.Fprintf(s.Stdout, "Restored the cluster's state from %s\n", printable(args[0]))
			return nil
		},
	}
}
