package e2e

import (
	"cmp"
	"crypto/sha256"
	bits "encoding/binary"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// TestBadDataDirectories starts agents on directories that were another's, a newer version's, or damaged: each refuses
// with one line that names the file and a way out, and changes nothing.
func TestBadDataDirectories(t *testing.T) {
	whole := usedDirectory(t)
	at := func(dir string, names ...string) string { return filepath.Join(append([]string{dir}, names...)...) }
	other := strings.Repeat("ab", 16)
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
		want  []string
	}{
		{"raft.db emptied", truncate(0, "server", "raft.db"), []string{"server/raft.db has lost state: it is empty", "-join"}},
		{"raft.db cut short", truncate(20_000, "server", "raft.db"), []string{"server/raft.db has lost state: it has 20000 of ", "-join"}},
		{"raft.db cut in its head", truncate(5000, "server", "raft.db"), []string{"server/raft.db is damaged", "-join"}},
		{"raft.db cut to nearly nothing", truncate(3, "server", "raft.db"), []string{"server/raft.db is damaged", "-join"}},
		{"raft.db with pages of zeros", func(t *testing.T, dir string) {
			path := at(dir, "server", "raft.db")
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			clear(whole[2*4096:])
			content(string(whole), "server", "raft.db")(t, dir)
		}, []string{"server/raft.db is damaged", "-join"}},
		{"raft.db lost", remove("server", "raft.db"), []string{"server/raft.db has lost state: it is missing", "-join"}},
		{"raft.db of noise", content(strings.Repeat("noise", 20_000), "server", "raft.db"), []string{"server/raft.db is damaged", "-join"}},
		{"raft.db of an older day", func(t *testing.T, dir string) {
			edit(t, at(dir, "server", "marker.json"), `"Index":\d+`, `"Index":999999`)
		}, []string{"server/raft.db has lost state: it ends at index", "999999", "-join"}},
		{"the marker lost", remove("server", "marker.json"), []string{"marker.json is missing", "put it back, or remove"}},
		{"the marker emptied", truncate(0, "server", "marker.json"), []string{"server/marker.json is damaged", "restore the data directory"}},
		{"a newer server", func(t *testing.T, dir string) {
			edit(t, at(dir, "server", "marker.json"), `"Format":1`, `"Format":2`)
		}, []string{"/server is of a newer version of cube (format 2, this binary knows 1)", "start it with that version"}},
		{"another server's", content(other+"\n", "server", "server-id"), []string{"/server belongs to server", other, "or another -data-dir"}},
		{"a server ID of noise", content("noise", "server", "server-id"), []string{"server/server-id does not hold a server ID", "restore it, or move"}},
		{"another node's", content(other+"\n", "client", "node-id"), []string{"state.db in ", "belongs to node", other, "-new-identity"}},
		{"a node ID of noise", content("noise", "client", "node-id"), []string{`client/node-id holds "noise"`, "-new-identity"}},
		{"a newer client", newerState, []string{"state.db has format 2 and this version of cube reads up to 1", "run the newer version"}},
		{"a file where server/ belongs", func(t *testing.T, dir string) {
			remove("server")(t, dir)
			content("x", "server")(t, dir)
		}, []string{"/server", "not a directory"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := copied(t, whole)
			c.spoil(t, dir)
			before := digests(t, dir)
			cli(t, nil, nil, "agent", "-server", "-client", "-bind", "127.0.9.4", "-data-dir", dir).complains(t, c.want...)
			if after := digests(t, dir); !maps.Equal(before, after) && !openedOnly(before, after) {
				t.Errorf("the directory was %v and is %v", before, after)
			}
		})
	}
	t.Run("what can be rebuilt is", func(t *testing.T) {
		dir := copied(t, whole)
		content(strings.Repeat("noise", 20_000), "client", "state.db")(t, dir)
		p := &process{name: "rebuilt", bind: "127.0.9.4", dir: dir, log: &lockedBuffer{}, args: []string{"-server", "-client"}}
		f := &fleet{t: t, servers: []*process{p}}
		p.start(t)
		t.Cleanup(f.close)
		f.eventually("the node is back", 20*time.Second, func() error { return f.nodesReady(1) })
		if !strings.Contains(p.log.String(), "state.db is set aside as state.db.damaged") {
			t.Errorf("it does not say what it did:\n%s", p.log)
		}
	})
}

// usedDirectory is the data directory of a server and client that has been in use and was stopped.
func usedDirectory(t *testing.T) string {
	t.Helper()
	p := &process{name: "used", bind: "127.0.9.4", dir: filepath.Join(t.TempDir(), "data"), log: &lockedBuffer{}, args: []string{"-server", "-client"}}
	f := &fleet{t: t, servers: []*process{p}}
	p.start(t)
	t.Cleanup(f.close)
	f.eventually("a node is ready", 20*time.Second, func() error { return f.nodesReady(1) })
	p.end(t, syscall.SIGTERM)
	return p.dir
}

// restart starts an agent again and waits until it is connected and so many nodes are ready.
func (p *process) restart(t *testing.T, f *fleet, ready int) {
	t.Helper()
	said := len(p.log.String())
	p.start(t)
	f.eventually(p.name+" is back", 20*time.Second, func() error {
		if now := p.log.String()[said:]; !strings.Contains(now, "connected: ") {
			return fmt.Errorf("its log says\n%s", now)
		}
		return f.nodesReady(ready)
	})
}

func copied(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// digests tells the content of every file but the locks, by its name.
func digests(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "lock" {
			return err
		}
		b, err := os.ReadFile(filepath.Join(dir, name))
		out[name] = fmt.Sprintf("%d bytes %.6x", len(b), sha256.Sum256(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// openedOnly reports whether nothing differs but raft.db, and that not in its length: to look into it means to open it,
// and then it is written to, though nothing is added.
func openedOnly(before, after map[string]string) bool {
	const log = "server/raft.db"
	size := func(digest string) string { return strings.Fields(digest)[0] }
	if before[log] == "" || after[log] == "" || size(before[log]) != size(after[log]) {
		return false
	}
	before, after = maps.Clone(before), maps.Clone(after)
	delete(before, log)
	delete(after, log)
	return maps.Equal(before, after)
}

func truncate(size int64, names ...string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		if err := os.Truncate(filepath.Join(append([]string{dir}, names...)...), size); err != nil {
			t.Fatal(err)
		}
	}
}

func remove(names ...string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		if err := os.RemoveAll(filepath.Join(append([]string{dir}, names...)...)); err != nil {
			t.Fatal(err)
		}
	}
}

func content(text string, names ...string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(append([]string{dir}, names...)...), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func edit(t *testing.T, path, pattern, by string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	edited := regexp.MustCompile(pattern).ReplaceAll(b, []byte(by))
	if string(edited) == string(b) {
		t.Fatalf("%s holds no %s: %s", path, pattern, b)
	}
	if err := os.WriteFile(path, edited, 0o600); err != nil {
		t.Fatal(err)
	}
}

// newerState makes the client's state one of the next format. A value is led by its CRC-32C.
func newerState(t *testing.T, dir string) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, "client", "state.db"), 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		value := []byte("2")
		sum := crc32.Checksum(value, crc32.MakeTable(crc32.Castagnoli))
		return tx.Bucket([]byte("meta")).Put([]byte("format"), append(bits.BigEndian.AppendUint32(nil, sum), value...))
	})
	if err := cmp.Or(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestJoinToNothing: an agent that reaches nobody says so within five seconds, goes on trying, and its own API says it too.
func TestJoinToNothing(t *testing.T) {
	for i, role := range []string{"-client", "-server"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			p := &process{name: "alone", bind: fmt.Sprint("127.0.9.", 50+i), dir: t.TempDir(), log: &lockedBuffer{}, args: []string{role, "-join", "127.0.9.99", "-join", "nowhere.invalid", "-join", "127.0.9.99:70000"}}
			f := &fleet{t: t, servers: []*process{p}}
			p.start(t)
			t.Cleanup(f.close)
			f.eventually("it says that it reaches nobody", 5*time.Second, func() error {
				for _, want := range []string{"cannot reach 127.0.9.99:5557: connection refused; still trying", "cannot reach nowhere.invalid: ", `cannot reach 127.0.9.99:70000: "70000" is not a port; still trying`} {
					if !strings.Contains(p.log.String(), want) {
						return fmt.Errorf("its log does not say %q:\n%s", want, p.log)
					}
				}
				return nil
			})
			want := "not connected to a server"
			if role == "-server" {
				want = "the servers have no leader; nothing was done"
			}
			body := `{"Source":"task \"web\" {\n  image = \"cube/hello:1\"\n}\n"}`
			if resp, answer := exchange(t, p.bind+":5555", post("/v1/jobs", body)); resp == nil || resp.StatusCode != 503 || !strings.Contains(answer, want) {
				t.Errorf("a write is answered by %+v %s, want 503 and %q", resp, answer, want)
			}
			p.end(t, syscall.SIGTERM)
			if p.err != nil {
				t.Errorf("told to stop, it ends with %v", p.err)
			}
		})
	}
}

// TestACopiedClient: of two agents with one data directory's identity the second is refused, and told the way out.
func TestACopiedClient(t *testing.T) {
	v := newVictim(t)
	v.client.end(t, syscall.SIGTERM)
	dir := copied(t, v.client.dir)
	v.client.restart(t, v.fleet, 2)
	second := &process{name: "second", bind: "127.0.9.6", dir: dir, log: &lockedBuffer{}, args: []string{"-client", "-join", v.server.bind}}
	second.start(t)
	t.Cleanup(func() {
		second.cmd.Process.Kill()
		<-second.done
	})
	v.eventually("the second is refused", 10*time.Second, func() error {
		for _, want := range []string{"is connected already, from " + v.client.bind, "-new-identity"} {
			if !strings.Contains(second.log.String(), want) {
				return fmt.Errorf("its log does not say %q:\n%s", want, second.log)
			}
		}
		return nil
	})
	v.unharmed(t, "a copied client")
	if err := v.nodesReady(2); err != nil {
		t.Errorf("with a copy of the second node about: %v", err)
	}
	second.end(t, syscall.SIGTERM)
	second.args = append(second.args, "-new-identity")
	second.start(t)
	v.eventually("with a new identity it is a node of its own", 20*time.Second, func() error { return v.nodesReady(3) })
}
