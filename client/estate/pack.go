package estate

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A directory travels as a tar in PAX format between two global headers: the first says how much there is, so that who receives it
// knows at once whether it wants that, and how far it is; the last says that this was all, which a tar does not. Regular files,
// directories, symbolic and hard links are in it, with their modes, times and owners; what else there may be, such as sockets,
// belongs to a program that has ended.
const (
	recordBytes = "CUBE.bytes" // in all files
	recordEnd   = "CUBE.end"
)

// Pack writes what is in dir to w. Nobody else may write there meanwhile.
func Pack(ctx context.Context, w io.Writer, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	p := &packer{ctx: ctx, root: root, tar: tar.NewWriter(w), links: map[inode]string{}}
	if err := p.walk(p.measure); err != nil {
		return err
	}
	if err := p.record(recordBytes, strconv.FormatInt(p.bytes, 10)); err != nil {
		return err
	}
	clear(p.links)
	if err := p.walk(p.add); err != nil {
		return err
	}
	if err := p.record(recordEnd, "all"); err != nil {
		return err
	}
	return p.tar.Close()
}

// inode names a file that may have several names.
type inode struct{ device, number uint64 }

type packer struct {
	ctx   context.Context
	root  *os.Root
	tar   *tar.Writer
	bytes int64
	links map[inode]string // files with several names: the one under which they were met first
}

func (p *packer) record(key, value string) error {
	return p.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{key: value}})
}

// walk calls visit with everything in the directory, what contains before what is contained. No link is followed.
func (p *packer) walk(visit func(name string, info fs.FileInfo, stat *syscall.Stat_t) error) error {
	return fs.WalkDir(p.root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = p.ctx.Err()
		}
		if err != nil || name == "." {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("%s: nothing is known of its owner", name)
		}
		return visit(name, info, stat)
	})
}

// again returns the name under which a file was met before, "" if it was not.
func (p *packer) again(name string, stat *syscall.Stat_t) string {
	if stat.Nlink < 2 {
		return ""
	}
	key := inode{uint64(stat.Dev), stat.Ino}
	if first, ok := p.links[key]; ok {
		return first
	}
	p.links[key] = name
	return ""
}

func (p *packer) measure(name string, info fs.FileInfo, stat *syscall.Stat_t) error {
	if info.Mode().IsRegular() && p.again(name, stat) == "" {
		p.bytes += info.Size()
	}
	return nil
}

func (p *packer) add(name string, info fs.FileInfo, stat *syscall.Stat_t) error {
	h := &tar.Header{
		Format: tar.FormatPAX, Name: name, Mode: int64(info.Mode().Perm()), ModTime: info.ModTime(), Uid: int(stat.Uid), Gid: int(stat.Gid),
	}
	switch {
	case info.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := p.root.Readlink(name)
		if err != nil {
			return err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
	case !info.Mode().IsRegular():
		return nil
	default:
		if first := p.again(name, stat); first != "" {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			break
		}
		h.Typeflag, h.Size = tar.TypeReg, info.Size()
		return p.file(h)
	}
	return p.tar.WriteHeader(h)
}

func (p *packer) file(h *tar.Header) error {
	f, err := p.root.Open(h.Name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := p.tar.WriteHeader(h); err != nil {
		return err
	}
	if _, err := io.CopyN(p.tar, f, h.Size); err != nil {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%s became shorter while it was read", h.Name)
		}
		return err
	}
	return p.ctx.Err()
}

// Limits bound what Unpack takes.
type Limits struct {
	Bytes   int64
	Entries int
}

// Unpacked is what has been received.
type Unpacked struct {
	Bytes int64 // in files
	Left  int   // symbolic links that were left out, since they led out of the directory
}

// Unpack makes the directory dir, which must not exist, of what Pack has written. It trusts none of it: nothing is written but below
// dir, no link is kept that leads out of it, and nothing that is more than a file, a directory or a link. inside is where the
// directory is for the program that uses it, to which absolute links may lead; "" for nowhere. Owners are kept if this process is
// root's; programs that would run as their owner are not. progress is called now and then with what has come of how much. After an
// error dir holds a part.
func Unpack(r io.Reader, dir, inside string, l Limits, progress func(done, all int64)) (Unpacked, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return Unpacked{}, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Unpacked{}, err
	}
	defer root.Close()
	u := &unpacker{root: root, tar: tar.NewReader(r), inside: inside, limits: l, progress: progress, dirs: map[string]*tar.Header{".": nil}, owners: os.Geteuid() == 0}
	if err := u.all(); err != nil {
		return u.Unpacked, err
	}
	return u.Unpacked, u.finish(dir)
}

type unpacker struct {
	Unpacked
	root     *os.Root
	tar      *tar.Reader
	inside   string
	limits   Limits
	progress func(done, all int64)
	promised int64                  // bytes in all
	dirs     map[string]*tar.Header // made, with what they are to be in the end
	order    []string               // of dirs
	owners   bool
}

// errNone says that a stream is none of Pack's.
var errNone = errors.New("what came is not the directory of an instance")

func (u *unpacker) all() error {
	h, err := u.tar.Next()
	if err != nil {
		return early(err)
	}
	if u.promised, err = strconv.ParseInt(h.PAXRecords[recordBytes], 10, 64); err != nil || h.Typeflag != tar.TypeXGlobalHeader || u.promised < 0 {
		return errNone
	}
	if u.promised > u.limits.Bytes {
		return fmt.Errorf("it holds %s, and at most %s are moved", size(u.promised), size(u.limits.Bytes))
	}
	for n := 0; ; n++ {
		h, err := u.tar.Next()
		switch {
		case err != nil:
			return early(err)
		case h.Typeflag == tar.TypeXGlobalHeader && h.PAXRecords[recordEnd] != "":
			return nil
		case n == u.limits.Entries:
			return fmt.Errorf("it holds more than %d files, which are not moved", u.limits.Entries)
		}
		if err := u.take(h); err != nil {
			return err
		}
	}
}

// early makes of an end the error that it is.
func early(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the stream broke: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// take makes one entry. Its directory must be one that was made here, and it must not be there yet: so no link is ever gone through.
func (u *unpacker) take(h *tar.Header) error {
	name := path.Clean(h.Name)
	if _, ok := u.dirs[path.Dir(name)]; !ok || !fs.ValidPath(name) || name == "." {
		return fmt.Errorf("%w: it has an entry %.80q", errNone, h.Name)
	}
	switch h.Typeflag {
	case tar.TypeDir:
		u.dirs[name], u.order = h, append(u.order, name)
		return u.root.Mkdir(name, 0o700)
	case tar.TypeReg:
		return u.file(name, h)
	case tar.TypeSymlink:
		if !u.keeps(name, h.Linkname) {
			u.Left++
			return nil
		}
		if err := u.root.Symlink(h.Linkname, name); err != nil {
			return err
		}
		return u.own(name, h)
	case tar.TypeLink:
		first := path.Clean(h.Linkname)
		info, err := os.FileInfo(nil), error(nil)
		if fs.ValidPath(first) {
			info, err = u.root.Lstat(first)
		}
		if _, ok := u.dirs[path.Dir(first)]; err != nil || info == nil || !info.Mode().IsRegular() || !ok {
			return fmt.Errorf("%w: its %.80q is another name of what is not there", errNone, h.Name)
		}
		return u.root.Link(first, name)
	}
	return fmt.Errorf("%w: its %.80q is of type %q", errNone, h.Name, h.Typeflag)
}

func (u *unpacker) file(name string, h *tar.Header) error {
	if u.Bytes+h.Size > u.promised {
		return fmt.Errorf("%w: it holds more than it said", errNone)
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, &counted{u})
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return early(err)
	}
	if err := u.own(name, h); err != nil {
		return err
	}
	return u.finishOne(name, h)
}

// counted reads an entry and says how far that is.
type counted struct{ u *unpacker }

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.u.tar.Read(p)
	c.u.Bytes += int64(n)
	if n > 0 {
		c.u.progress(c.u.Bytes, c.u.promised)
	}
	return n, err
}

func (u *unpacker) own(name string, h *tar.Header) error {
	if !u.owners {
		return nil
	}
	return u.root.Lchown(name, h.Uid, h.Gid)
}

func (u *unpacker) finishOne(name string, h *tar.Header) error {
	if err := u.root.Chmod(name, fs.FileMode(h.Mode).Perm()); err != nil {
		return err
	}
	return u.root.Chtimes(name, time.Now(), h.ModTime)
}

// keeps reports whether a symbolic link leads nowhere but into the directory, whatever else is there: ".." is taken for what it says
// only at the beginning, since after a link it would mean something else.
func (u *unpacker) keeps(name, target string) bool {
	if path.IsAbs(target) {
		return u.inside != "" && path.Clean(target) == target && (target == u.inside || strings.HasPrefix(target, u.inside+"/"))
	}
	depth := 0
	for d := path.Dir(name); d != "."; d = path.Dir(d) {
		depth++
	}
	down := false
	for part := range strings.SplitSeq(target, "/") {
		switch {
		case part == "..":
			if depth--; down || depth < 0 {
				return false
			}
		case part != "" && part != ".":
			down = true
		}
	}
	return true
}

// finish makes the directories what they are to be, the inner ones first, and has everything reach the disk.
func (u *unpacker) finish(dir string) error {
	for i := len(u.order) - 1; i >= 0; i-- {
		name := u.order[i]
		if err := u.own(name, u.dirs[name]); err != nil {
			return err
		}
		if err := u.finishOne(name, u.dirs[name]); err != nil {
			return err
		}
	}
	if err := os.Chmod(dir, 0o777); err != nil { // past the umask
		return err
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}
