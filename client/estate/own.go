package estate

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Own is the directory within an allocation's directory that its instance is given as its ephemeral disk.
func Own(allocation string) string { return filepath.Join(allocation, "data") }

// Inherit makes an allocation's own directory, unless it is there. It is the first that there is of those of the allocations
// before it on this node, or else a new one. A crash leaves it with the one or the other.
func Inherit(allocation string, before []Before) error {
	own := Own(allocation)
	if _, err := os.Stat(own); err == nil {
		return nil
	}
	for _, b := range before {
		if b.Dir == "" {
			continue
		}
		if err := os.Rename(Own(b.Dir), own); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	// Under another name first: what is there is what any program may write to.
	fresh := own + ".new"
	if err := os.Mkdir(fresh, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Chmod(fresh, 0o777); err != nil { // past the umask
		return err
	}
	return os.Rename(fresh, own)
}
