package transcript

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"cube/api"
	"cube/client/driver"
)

// Keep bounds what is kept of an instance that is removed.
const (
	KeepBytes = 256 << 10 // of each stream: enough for the stack trace that explains the end, and what led there
	keepRuns  = 3         // an instance that ends every few minutes for weeks must not fill the disk
)

// Archive finds the directories of allocations by their IDs, also after the agent has started anew, and keeps in them
// the tails of what removed instances printed. It holds a symbolic link for each allocation; whoever deletes an
// allocation's directory need not know of it. Its methods are safe for concurrent use.
type Archive struct {
	dir    string
	placed atomic.Uint32 // how often Place has made a link
}

// pruneEvery is after how many new allocations the links of deleted ones are looked for.
const pruneEvery = 256

// OpenArchive opens the archive in dir, and makes it if needed. Links to directories that are gone are deleted.
func OpenArchive(dir string) (*Archive, error) {
	full, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find the directory %s: %w", dir, err)
	}
	if err := os.MkdirAll(full, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of allocations: %w", err)
	}
	a := &Archive{dir: full}
	return a, a.prune()
}

// prune deletes links to directories that are gone.
func (a *Archive) prune() error {
	entries, err := os.ReadDir(a.dir)
	if err != nil {
		return fmt.Errorf("read the directory of allocations: %w", err)
	}
	for _, e := range entries {
		link := filepath.Join(a.dir, e.Name())
		if _, err := os.Stat(link); !errors.Is(err, fs.ErrNotExist) || e.Type()&fs.ModeSymlink == 0 {
			continue
		}
		if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("delete the link of an allocation that is gone: %w", err)
		}
	}
	return nil
}

func (a *Archive) link(id api.ID) string {
	return filepath.Join(a.dir, strconv.FormatUint(uint64(id), 16))
}

// Place says where an allocation's directory is.
func (a *Archive) Place(id api.ID, dir string) error {
	if dir == "" {
		return errors.New("the allocation has no directory")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("find the allocation's directory: %w", err)
	}
	link := a.link(id)
	if have, err := os.Readlink(link); err == nil && have == dir {
		return nil
	} else if err == nil {
		if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("move an allocation's directory: %w", err)
		}
	}
	if err := os.Symlink(dir, link); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("remember an allocation's directory: %w", err)
	}
	if a.placed.Add(1)%pruneEvery == 0 {
		return a.prune()
	}
	return nil
}

// Dir returns an allocation's directory. ok is false when there is none, or no more.
func (a *Archive) Dir(id api.ID) (dir string, ok bool) {
	dir, err := os.Readlink(a.link(id))
	if err != nil {
		return "", false
	}
	if _, err := os.Stat(dir); err != nil {
		return "", false
	}
	return dir, true
}

// Allocations returns the IDs of all that have a directory.
func (a *Archive) Allocations() ([]api.ID, error) {
	entries, err := os.ReadDir(a.dir)
	if err != nil {
		return nil, fmt.Errorf("read the directory of allocations: %w", err)
	}
	var ids []api.ID
	for _, e := range entries {
		id, err := strconv.ParseUint(e.Name(), 16, 64)
		if err != nil {
			continue // not ours
		}
		if _, ok := a.Dir(api.ID(id)); ok {
			ids = append(ids, api.ID(id))
		}
	}
	return ids, nil
}

const keptPrefix, keptSuffix = "kept-", ".log"

// prefixOf begins the names of the files that are kept of an allocation's main instances, or of a part's. Names of parts have
// no dot, so none passes for another's.
func prefixOf(part string) string {
	if part == "" {
		return keptPrefix
	}
	return "part." + part + "." + keptPrefix
}

// fileOf is the name of the file that is kept of one run. Names sort as runs do.
func fileOf(k driver.Key) string {
	if k.Part == "" {
		return fmt.Sprintf("%s%010d%s", keptPrefix, k.Restarts, keptSuffix)
	}
	return fmt.Sprintf("%s%010d-%010d%s", prefixOf(k.Part), k.Of, k.Restarts, keptSuffix)
}

// Keep writes the tail of an instance that is about to be removed. Where the allocation's directory is gone there is
// nobody to ask for it, and nothing is kept.
func (a *Archive) Keep(k driver.Key, t *Tail) error {
	dir, ok := a.Dir(k.Allocation)
	if !ok {
		return nil
	}
	var text []byte
	var e encoder
	for _, r := range t.Records() {
		text = e.append(text, r)
	}
	path := filepath.Join(dir, fileOf(k))
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return fmt.Errorf("keep the instance's last output: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("keep the instance's last output: %w", err)
	}
	all, err := kept(dir, k.Part)
	if err != nil {
		return err
	}
	for len(all) > keepRuns {
		if err := os.Remove(all[0]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("delete the output of an old run: %w", err)
		}
		all = all[1:]
	}
	return nil
}

// kept returns the files of output that is kept of the main instances, or of a part's, oldest run first.
func kept(dir, part string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("look for kept output: %w", err)
	}
	var all []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefixOf(part)) && strings.HasSuffix(e.Name(), keptSuffix) {
			all = append(all, filepath.Join(dir, e.Name()))
		}
	}
	slices.Sort(all)
	return all, nil
}

// AnswerKept adds the kept records of an allocation's removed instances to an answer, oldest first: of the main ones, or of
// a part's. Runs that are there still, as far as the caller knows, are left to AnswerRun.
func (a *Archive) AnswerKept(id api.ID, part string, answer *Answer, there ...driver.Key) error {
	dir, ok := a.Dir(id)
	if !ok {
		return nil
	}
	all, err := kept(dir, part)
	if err != nil {
		return err
	}
	for _, path := range all {
		if slices.ContainsFunc(there, func(k driver.Key) bool { return fileOf(k) == filepath.Base(path) }) {
			continue
		}
		if err := readFile(path, answer.Add); err != nil {
			return err
		}
		if err := answer.EndRun(); err != nil {
			return err
		}
	}
	return nil
}

// AnswerRun adds what is kept of one run to an answer, if that is anything.
func (a *Archive) AnswerRun(k driver.Key, answer *Answer) error {
	dir, ok := a.Dir(k.Allocation)
	if !ok {
		return nil
	}
	return readFile(filepath.Join(dir, fileOf(k)), answer.Add)
}

func readFile(path string, each func(Record) error) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // an older run's, deleted meanwhile
	}
	if err != nil {
		return fmt.Errorf("open kept output: %w", err)
	}
	defer f.Close()
	for r := NewReader(f); ; {
		record, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := each(record); err != nil {
			return err
		}
	}
}
