// Package payload puts what a job was dispatched with where an instance finds it.
package payload

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"cube/api"
)

// Variable is the one that names the file.
const Variable = "CUBE_PAYLOAD_FILE"

// Directory is the one of an allocation's directory that holds the file.
func Directory(allocation string) string { return filepath.Join(allocation, "dispatch") }

// Put writes the payload that a job was dispatched with for the instances of a task, unless the task wants none. After a crash
// there is all of the file or nothing of it; calls for one allocation at the same time, for parts of its task, write the same. Where no
// payload came the file is empty: a program that reads it need not ask first.
func Put(allocation string, j *api.Job, t *api.Task) error {
	if t.DispatchPayload == nil || j.Dispatched == nil {
		return nil
	}
	dir := Directory(allocation)
	file := filepath.Join(dir, t.DispatchPayload.File)
	if err := put(allocation, dir, file, j.Dispatched.Payload); err != nil {
		return fmt.Errorf("put the payload into %s: %w", file, err)
	}
	return nil
}

func put(allocation, dir, file string, content []byte) error {
	const open, readable = 0o755, 0o644 // by whatever user the program in a container runs as: the directory above is the agent's
	if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, content) {
		return nil
	}
	if err := os.MkdirAll(dir, open); err != nil {
		return err
	}
	fresh, err := os.CreateTemp(allocation, "dispatch-") // outside, so that the program never sees it
	if err != nil {
		return err
	}
	_, err = fresh.Write(content)
	err = errors.Join(err, fresh.Chmod(readable), os.Chmod(dir, open), fresh.Close()) // past the umask
	if err == nil {
		err = os.Rename(fresh.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(fresh.Name()))
	}
	return nil
}
