package volume

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"cube/api"
)

// withdrawal is how long a volume stays withdrawn when the servers say no more of it: longer than they take between two
// steps, and short enough that one that went away in between is not missed for long.
const withdrawal = 30 * time.Second

// Store are a node's volumes: those that its configuration names, and those that were made on it. The latter are kept under
// one directory, each as
//
//	NAME/      what is in it
//	NAME.json  that it is there, who had it made and how it may be used
//
// so that it exists when its file does: a directory without one holds what a former volume left. Its methods are safe for
// concurrent use. Make it with New.
type Store struct {
	dir    string
	static []api.NodeVolume

	mu        sync.Mutex // guards what follows, and what is under dir
	made      map[string]record
	withdrawn map[string]time.Time // until when
	read      bool                 // made is what is under dir
}

// record is what NAME.json holds.
type record struct {
	ReadOnly     bool   `json:",omitempty"`
	SingleWriter bool   `json:",omitempty"`
	By           string `json:",omitempty"`
	At           time.Time
	Request      string `json:",omitempty"` // that asked for it: asked again, it has been done
}

// New returns the volumes of a configuration and those under dir, which is made when it is needed. Nothing is read yet.
func New(dir string, static []api.NodeVolume) *Store {
	return &Store{dir: dir, static: static, made: map[string]record{}, withdrawn: map[string]time.Time{}}
}

// Find returns the volumes that can be given to tasks now, by name. The error, if any, says which ones cannot and why; the
// others are there all the same.
func (s *Store) Find() ([]api.NodeVolume, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.load()
	all := slices.Clone(s.static)
	for _, name := range slices.Sorted(maps.Keys(s.made)) {
		switch until, gone := s.withdrawn[name]; {
		case s.named(name):
			err = errors.Join(err, fmt.Errorf("volume %s: the one that was made here is hidden by that of the configuration", name))
		case !gone || !time.Now().Before(until):
			delete(s.withdrawn, name)
			all = append(all, s.volume(name))
		}
	}
	slices.SortFunc(all, func(a, b api.NodeVolume) int { return cmp.Compare(a.Name, b.Name) })
	found, trouble := Find(all)
	if err = errors.Join(err, trouble); err != nil {
		err = errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return found, err
}

// Change takes one step of making or removing a volume. An error is an *api.Error where the order is at fault; then, and
// whenever Step is VolumeMake, nothing has changed.
func (s *Store) Change(c api.VolumeChange) (*api.VolumeDone, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	trouble := s.load()
	if err := api.CheckName(c.Name); err != nil { // it becomes part of a path
		return nil, api.Errorf(api.CodeInvalid, "volume name %.80q %w", c.Name, err)
	}
	if _, ok := s.made[c.Name]; !ok && trouble != nil {
		if _, err := os.Stat(s.path(c.Name) + ".json"); err == nil {
			return nil, api.Errorf(api.CodeInternal, "volume %s is there, and cannot be read: %w", c.Name, trouble)
		}
	}
	if c.Step == api.VolumeMake {
		return s.create(c)
	}
	if _, ok := s.made[c.Name]; !ok {
		if s.named(c.Name) {
			return nil, api.Errorf(api.CodeConflict, "volume %s is named in the node's configuration: remove it there", c.Name)
		}
		return nil, api.Errorf(api.CodeNotFound, "the node has made no volume %s", c.Name)
	}
	done := &api.VolumeDone{Volume: s.volume(c.Name)}
	switch c.Step {
	case api.VolumeWithdraw:
		s.withdrawn[c.Name] = time.Now().Add(withdrawal)
	case api.VolumeOffer:
		delete(s.withdrawn, c.Name)
	case api.VolumeRemove:
		if until, ok := s.withdrawn[c.Name]; !ok || !time.Now().Before(until) {
			return nil, api.Errorf(api.CodeConflict, "volume %s is offered to tasks again: the order took too long; give it again", c.Name)
		}
		done.Kept = !c.Data
		return done, s.remove(c.Name, c.Data)
	default:
		return nil, api.Errorf(api.CodeNotYet, "the node's agent does not know how to %.20q a volume: update it", c.Step)
	}
	return done, nil
}

func (s *Store) named(name string) bool {
	return slices.ContainsFunc(s.static, func(v api.NodeVolume) bool { return v.Name == name })
}

// exists reports whether there is a directory for a volume. One whose directory a person took away can be made anew.
func (s *Store) exists(name string) bool {
	info, err := os.Stat(s.path(name))
	return err == nil && info.IsDir()
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

func (s *Store) volume(name string) api.NodeVolume {
	r := s.made[name]
	return api.NodeVolume{
		Name: name, Path: s.path(name), ReadOnly: r.ReadOnly, SingleWriter: r.SingleWriter, Made: &api.VolumeOrigin{By: r.By, At: r.At},
	}
}

// load reads what is under dir, once. A file that cannot be read is in the error; its volume is not offered.
func (s *Store) load() error {
	if s.read {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(s.dir, "*.json"))
	if err != nil {
		return fmt.Errorf("look for volumes in %s: %w", s.dir, err)
	}
	var troubles error
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		var r record
		b, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(b, &r)
		}
		if err == nil {
			if wrong := api.CheckName(name); wrong != nil {
				err = fmt.Errorf("its name %w", wrong)
			}
		}
		if err != nil {
			troubles = errors.Join(troubles, fmt.Errorf("volume %s: read %s: %w", name, file, err))
			continue
		}
		s.made[name] = r
	}
	s.read = troubles == nil
	return troubles
}

func (s *Store) create(c api.VolumeChange) (*api.VolumeDone, error) {
	if r, ok := s.made[c.Name]; ok && s.exists(c.Name) {
		if c.Request != "" && r.Request == c.Request {
			return &api.VolumeDone{Volume: s.volume(c.Name)}, nil
		}
		return nil, api.Errorf(api.CodeConflict, "the node has a volume %s already", c.Name)
	}
	if s.named(c.Name) {
		return nil, api.Errorf(api.CodeConflict, "the node has a volume %s already: its configuration names it", c.Name)
	}
	if n := len(s.made) + len(s.static); n >= api.MaxNodeVolumes {
		return nil, api.Errorf(api.CodeInvalid, "the node has %d volumes already; more it may not have", n)
	}
	path := s.path(c.Name)
	if err := api.CheckVolumes([]api.NodeVolume{{Name: c.Name, Path: path}}); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.dir, 0o711); err != nil {
		return nil, fmt.Errorf("make the directory of volumes: %w", err)
	}
	err := os.Mkdir(path, 0o777)
	done := &api.VolumeDone{Kept: errors.Is(err, fs.ErrExist)}
	if err == nil {
		err = os.Chmod(path, 0o777) // past the umask: a container's program is whoever its image says
	}
	if err != nil && !done.Kept {
		return nil, fmt.Errorf("make volume %s: %w", c.Name, err)
	}
	r := record{ReadOnly: c.Access == api.AccessMultiReader, SingleWriter: c.Access == api.AccessSingleWriter, By: c.By, At: time.Now().UTC(), Request: c.Request}
	if err := s.write(c.Name, r); err != nil {
		return nil, fmt.Errorf("make volume %s: %w", c.Name, err)
	}
	s.made[c.Name] = r
	delete(s.withdrawn, c.Name)
	done.Volume = s.volume(c.Name)
	return done, nil
}

// write writes a volume's file so that after a crash all of it is there, or none.
func (s *Store) write(name string, r record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(s.dir, ".new-")
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), s.path(name)+".json")
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return s.sync()
}

// remove forgets a volume, and then, if that is wanted, what is in it. What an earlier removal did not get to goes too.
func (s *Store) remove(name string, data bool) error {
	if err := os.Remove(s.path(name) + ".json"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	delete(s.made, name)
	delete(s.withdrawn, name)
	err := s.sync()
	if err == nil && data {
		condemned := filepath.Join(s.dir, ".removed-"+name)
		if err = os.RemoveAll(condemned); err == nil {
			err = os.Rename(s.path(name), condemned) // at once for whoever looks, however long it takes
		}
		if err == nil {
			err = os.RemoveAll(condemned)
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err != nil {
		return api.Errorf(api.CodeInternal, "volume %s is removed, but not all that was in it (see %s): %w", name, s.dir, err)
	}
	return nil
}

func (s *Store) sync() error {
	d, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
