package e2e

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// badFile is a task file and what must be said of it.
type badFile struct{ name, text, want string }

// task is a task file with one task and something more in line 3.
func task(more string) string {
	return "task \"web\" {\n  image = \"cube/hello:1\"\n  " + more + "\n}\n"
}

func badFiles() []badFile {
	files := []badFile{
		{"parentheses", "a = " + strings.Repeat("(", 70_000), ":1:69: brackets, blocks and strings are nested"},
		{"blocks", strings.Repeat("a {", 200_000), ":1:1: the text has about"},
		{"blocks in lines", strings.Repeat("a {\n", 200_000), ":1:1: the text has about"},
		{"fewer blocks", strings.Repeat("a {\n", 40_000), ":65:3: brackets, blocks and strings are nested"},
		{"minus", "a = " + strings.Repeat("-", 1_000_000) + "1", ":1:1: the text has about"},
		{"a number with an exponent", task(`user = "x${1e10000000}"`), ":3:14: a number is written without an exponent"},
		{"digits", task("count = " + strings.Repeat("9", 900_000)), ":3:11: a number has too many digits"},
		{"a heredoc without an end", "task \"web\" {\n  image = <<EOT\nabc", ":3:4: "},
		{"a string without an end", task(`user = "x`), ":3:10: the string is not closed"},
		{"NUL", task("user = \"a\x00b\""), ":3:12: the text holds a NUL character"},
		{"not UTF-8", task("user = \"a\xffb\""), ":3:12: the text holds bytes that are not UTF-8"},
		{"UTF-16", "\xff\xfet\x00a\x00", ":1:1: the text holds bytes that are not UTF-8"},
		{"a byte order mark", "\ufeff" + task(""), ":1:1: the text begins with a byte order mark"},
		{"no block", "hello", ":1:1: "},
		{"an unknown key", task(`comand = "x"`), `:3:3: unknown key "comand"; did you mean "command"?`},
		{"an unknown block", task("resource {\n  }"), `:3:3: unknown key "resource"; did you mean "resources"?`},
		{"a key of the wrong type", task(`count = "many"`), ":3:11: count takes a number, not text"},
		{"text for a list", task(`args = "x"`), ":3:10: args takes a list"},
		{"a list for a map", task(`env = ["x"]`), ":3:9: env takes a map"},
		{"a count below zero", task("count = -1"), ":3:11: count -1 is not from 0 to 100000"},
		{"a huge count", task("count = 1000000000"), ":3:11: count 1000000000 is not from 0 to 100000"},
		{"a broken count", task("count = 1.5"), ":3:11: count takes a whole number, not 1.5"},
		{"no memory", task("resources { memory = 0 }"), ":3:24: memory 0 MiB is not from 6 MiB up"},
		{"all memory", task("resources { memory = 9223372036854775808 }"), ":3:24: a number has too many digits"},
		{"no cpu", task("resources { cpu = -0.5 }"), ":3:21: cpu -0.5 is not from"},
		{"port 0", task(`port "a" { static = 0 }`), ":3:23: static 0 is not from 1 to 65535"},
		{"port 65536", task(`port "a" { static = 65536 }`), ":3:23: static 65536 is not from 1 to 65535"},
		{"port 65536 inside", task(`port "a" { to = 65536 }`), ":3:19: to 65536 is not from 1 to 65535"},
		{"a port twice", task("port \"a\" { static = 8080 }\n  port \"b\" { static = 8080 }"), `:4:23: port "a" has 8080 on the host already`},
		{"a port's name twice", task("port \"a\" {}\n  port \"a\" {}"), `:4:8: port "a" is there already`},
		{"a task twice", "job \"j\" {\n" + task("") + task("") + "}\n", `:6:6: task "web" is there already`},
		{"a pattern that does not compile", task("constraint {\n    attribute = \"node.name\"\n    operator = \"regexp\"\n    value = \"(\"\n  }"), `:6:13: "(" is not a regular expression`},
		{"an operator that is none", task("constraint {\n    attribute = \"node.name\"\n    operator = \"~=\"\n    value = \"x\"\n  }"), ":5:16: "},
		{"a root that is unknown", task(`user = "${env.HOME}"`), ":3:13: "},
		{"no time between restarts", task(`restart { interval = "1ns" }`), ":3:24: interval 1ns is not from 1s to a year"},
		{"an option as an image", "task \"web\" {\n  image = \"-v\"\n}\n", `:2:11: image "-v" is not the name of an image`},
		{"a name in capitals", "task \"web\" {\n  image = \"Hello\"\n}\n", ":2:11: image \"Hello\" is not the name of an image"},
		{"an impossible digest", "task \"web\" {\n  image = \"a@sha256:zz\"\n}\n", ":2:11: "},
		{"a type that is none", "job \"j\" {\n  type = \"daemon\"\n" + task("") + "}\n", ":2:10: "},
		{"a count on every node", "job \"j\" {\n  type = \"system\"\n" + task("count = 2") + "}\n", ":5:"},
		{"a block that is not there yet", task(`template "log" {}`), ":3:3: template is not there yet"},
		{"a sidecar without an image", task(`sidecar "log" {}`), ":3:3: image is missing; the docker driver needs one"},
		{"a prestart with a port", task("prestart \"p\" {\n    image = \"i\"\n    port \"http\" {}\n  }"), `:5:5: unknown key "port"; a prestart has none of its own`},
		{"a task that waits for itself", task(`depends_on "web" {}`), ":3:3: a task cannot wait for itself"},
		{"an order that is none", task(`update { order = "any" }`), ":3:20: "},
		{"no attempts elsewhere", task("restart {\n    attempts = 1\n    mode = \"fail\"\n  }\n  reschedule { attempts = -1 }"), ":7:27: "},
		{"a volume without a place", task(`volume "data" {}`), ":3:3: "},
		{"a delay in the past", task(`shutdown_delay = "-1s"`), ":3:20: "},
	}
	for _, name := range []string{"../x", "/etc/passwd", "a/b", "..", "a b", "A", "-a", "a.", "tаsk", "a\u202eb", strings.Repeat("a", 64), ""} {
		files = append(files, badFile{fmt.Sprintf("the name %q", name), fmt.Sprintf("task %q {\n  image = \"cube/hello:1\"\n}\n", name), ":1:6: "})
	}
	for _, name := range []string{"a\x1b[31mb", "a\tb", "a\x7fb"} { // as bytes: Go would escape them
		files = append(files, badFile{fmt.Sprintf("the name %q", name), "task \"" + name + "\" {\n  image = \"cube/hello:1\"\n}\n", ":1:6: "})
	}
	return files
}

func (v *victim) files(t *testing.T) {
	for _, f := range badFiles() {
		t.Run(f.name, func(t *testing.T) {
			path := write(t, "web.hcl", f.text)
			where := path + f.want
			cli(t, nil, nil, "task", "validate", path).complains(t, where)
			cli(t, nil, nil, "task", "run", "-address", v.client.bind, path).complains(t, where)
			v.unharmed(t, f.name)
		})
	}
}

// commands are command lines that cannot work, on both agents or without one.
func (v *victim) commands(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	good := write(t, "good.hcl", task(""))
	for name, size := range map[string]int64{"empty": 0, "5 GB": 5 << 30} {
		if err := cmp.Or(os.WriteFile(path(name), nil, 0o600), os.Truncate(path(name), size)); err != nil {
			t.Fatal(err)
		}
	}
	cases := []struct {
		args []string
		want string
	}{
		{[]string{"task", "run", path("nothing")}, `nothing": no such file or directory`},
		{[]string{"task", "run", dir}, "it is a directory; name a file"},
		{[]string{"task", "run", path("empty")}, "it is empty; 'cube task init'"},
		{[]string{"task", "run", path("5 GB")}, "it is over 1048576 bytes"},
		{[]string{"task", "validate", path("5 GB")}, "it is over 1048576 bytes"},
		{[]string{"task", "fmt", path("5 GB")}, "it is over 1048576 bytes"},
		{[]string{"task", "run", "/dev/zero"}, "it is over 1048576 bytes"},
		{[]string{"task", "run", good + "/x"}, "not a directory"},
		{[]string{"task", "run", path("a\x1b]0;x\a")}, `a\x1b]0;x\a": no such file`},
		{[]string{"task", "run", "-", "-"}, "this command takes one argument: <file>, got 2 arguments"},
		{[]string{"task", "run"}, "this command takes one argument: <file>, got 0 arguments"},
		{[]string{"task", "run", ""}, "an argument is empty"},
		{[]string{"task", "run", "-", "-var-file", path("nothing")}, `it is empty`},
		{[]string{"task", "run", "-var-file", path("nothing"), good}, `nothing": no such file`},
		{[]string{"task", "run", "-var-file", dir, good}, "it is a directory"},
		{[]string{"task", "run", "-var-file", path("5 GB"), good}, "it is over 1048576 bytes"},
		{[]string{"task", "run", "-var", "x", good}, "not of the form name=value"},
		{[]string{"task", "run", "-var", "x=1", good}, `"x"`},
		{[]string{"task", "run", "-detatch", good}, "unknown flag -detatch; did you mean -detach?"},
		{[]string{"task", "run", "-timeout", "soon", good}, `invalid value "soon" for flag -timeout`},
		{[]string{"task", "status", "nothing"}, `there is no job "nothing"`},
		{[]string{"task", "status", "../../x"}, `there is no job ".."`},
		{[]string{"task", "status", "a\nb"}, `there is no job "a\nb"`},
		{[]string{"task", "stop", "nothing"}, `there is no job "nothing"`},
		{[]string{"task", "logs", "nothing"}, `there is no job "nothing"`},
		{[]string{"task", "logs", "-f", "nothing"}, `there is no job "nothing"`},
		{[]string{"alloc", "status", "zzzz"}, `no allocation has an ID that begins with "zzzz"`},
		{[]string{"alloc", "logs", "ffff"}, `no allocation has an ID that begins with "ffff"`},
		{[]string{"alloc", "stop", "../x"}, `no allocation has an ID that begins with "../x"`},
		{[]string{"eval", "status", "zzzz"}, `no evaluation has an ID that begins with "zzzz"`},
		{[]string{"node", "status", "zzzz"}, `no node is called "zzzz", nor has an ID that begins so`},
		{[]string{"node", "eligibility", "-disable", "zzzz"}, `no node is called "zzzz", nor has an ID that begins so`},
		{[]string{"operator", "raft", "remove-peer", "zzzz"}, "no server of the Raft configuration has this ID or name"},
		{[]string{"operator", "snapshot", "save", dir}, "it is a directory; name a file"},
		{[]string{"operator", "snapshot", "save", path("no/where")}, "no such file or directory"},
		{[]string{"operator", "snapshot", "restore", path("empty")}, "nobody is there to ask; give -yes"},
		{[]string{"operator", "raft", "recover", "-yes", "-data-dir", dir}, "is not the data directory of a server"},
	}
	for _, c := range cases {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			for _, agent := range v.addresses() {
				cli(t, nil, []string{"CUBE_ADDR=" + agent}, c.args...).complains(t, c.want)
			}
			v.unharmed(t, strings.Join(c.args, " "))
		})
	}
	t.Run("addresses", v.wrongAddresses)
	t.Run("pipes", v.pipes)
	t.Run("terminal", v.terminal)
	t.Run("agent", v.agents)
}

// wrongAddresses: nobody is there, somebody else is there, or it is no address at all.
func (v *victim) wrongAddresses(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.9.9":                          "no Cube agent answers at http://127.0.9.9:5555; start one",
		"127.0.9.1:1":                        "no Cube agent answers at http://127.0.9.1:1; start one",
		"[::1]:1":                            "http://[::1]:1",
		"http://[::1%25lo]:1":                "http://[::1%25lo]:1",
		"unix:///nowhere.sock":               "no Cube agent answers at unix:///nowhere.sock; start one",
		"nowhere.invalid":                    "cannot find the host of http://nowhere.invalid:5555",
		v.server.bind + ":5556":              "cannot reach the Cube agent at http://127.0.9.1:5556",
		v.server.bind + ":5557":              "cannot reach the Cube agent at http://127.0.9.1:5557",
		"https://" + v.server.bind + ":5555": "server gave HTTP response to HTTPS client",
		v.server.bind + ":65536":             "port 65536 is not from 1 to 65535",
		v.server.bind + ":0":                 "port 0 is not from 1 to 65535",
		"ftp://x":                            `address "ftp://x" is not one of`,
		"http://127.0.9.1/v1":                "is not one of http://host:port",
		"::1":                                "is not one of http://host:port",
		"fe80::1%lo":                         "is not one of http://host:port",
		" ":                                  "is not one of http://host:port",
		"/tmp/x.sock":                        "is not one of http://host:port",
	} {
		t.Run(address, func(t *testing.T) {
			cli(t, nil, nil, "node", "status", "-address", address).complains(t, want)
			cli(t, nil, []string{"CUBE_ADDR=" + address}, "node", "status").complains(t, want)
		})
	}
	v.unharmed(t, "wrong addresses")
}

// pipes: standard input that is empty, closed or bad, and a named pipe that nobody writes to, which can be left.
func (v *victim) pipes(t *testing.T) {
	at := []string{"CUBE_ADDR=" + v.client.bind}
	cli(t, strings.NewReader(""), at, "task", "run", "-").complains(t, `Error reading "-": it is empty`)
	cli(t, nil, at, "task", "run", "-").complains(t, `Error reading "-": it is empty`)
	cli(t, strings.NewReader("task {"), at, "task", "run", "-").complains(t, "<stdin>:1:")
	cli(t, io.LimitReader(zeros{}, 5<<30), at, "task", "run", "-").complains(t, "it is over 1048576 bytes")

	closed := exec.Command("sh", "-c", `exec "$0" task run - <&-`, binary)
	closed.Env = append(os.Environ(), at...)
	if out, err := closed.CombinedOutput(); err == nil || !strings.HasPrefix(string(out), `Error reading "-": `) {
		t.Errorf("with standard input closed: %v\n%s", err, out)
	}

	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	p := exec.Command(binary, "task", "run", pipe)
	p.Env = append(os.Environ(), at...)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	// It opens the pipe when it is ready to be interrupted: opening it without waiting works from then on.
	var hold *os.File
	v.eventually("the pipe is opened", patience, func() (err error) {
		hold, err = os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		return err
	})
	defer hold.Close()
	ended := make(chan error, 1)
	go func() { ended <- p.Wait() }()
	if err := p.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("an interrupted command ends with 0")
		}
	case <-time.After(patience):
		p.Process.Kill()
		t.Error("a command that waits for a pipe cannot be interrupted")
	}
	v.unharmed(t, "pipes")
}

// zeros is a file without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// terminal: NO_COLOR holds on a terminal too, and a narrow one breaks nothing.
func (v *victim) terminal(t *testing.T) {
	for _, env := range []string{"NO_COLOR=1", "NO_COLOR="} {
		cmd := exec.Command(binary, "node", "status", "-address", v.server.bind)
		cmd.Env = append(os.Environ(), env, "TERM=xterm-256color")
		tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 5, Cols: 20})
		if err != nil {
			t.Fatal(err)
		}
		out, _ := io.ReadAll(tty) // ends with EIO when the command does
		if err := cmd.Wait(); err != nil {
			t.Errorf("with %s: %v\n%s", env, err, out)
		}
		if coloured := strings.Contains(string(out), "\x1b["); coloured != (env == "NO_COLOR=") || !strings.Contains(string(out), v.server.name) {
			t.Errorf("with %s: %q", env, out)
		}
	}
}

// agents that must not start, and leave nothing where they would have worked.
func (v *victim) agents(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	data := filepath.Join(dir, "data")
	config := func(text string) []string {
		return []string{"-client", "-bind", "127.0.9.3", "-data-dir", data, "-config", write(t, "agent.hcl", text)}
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "an agent is a server, a client or both; give -server, -client or -dev"},
		{[]string{"x"}, "this command takes no arguments, got 1 argument"},
		{[]string{"-dev", "-join", "127.0.9.1"}, "it does not take -join"},
		{[]string{"-dev", "-bind", "eth0"}, `bind address "eth0" is not an IP address`},
		{[]string{"-dev", "-bind", "127.0.9.3", "-log-level", "loud"}, `log level "loud" is none of`},
		{[]string{"-dev", "-bind", "127.0.9.3", "-http", "127.0.9.3:65536"}, "no port from 0 to 65535"},
		{[]string{"-dev", "-bind", "127.0.9.3", "-http", "x"}, `http address "x" is not host:port`},
		{[]string{"-dev", "-bind", "192.0.2.1"}, "listen on 192.0.2.1:"},
		{[]string{"-dev", "-bind", "8.8.4.4"}, "8.8.4.4 is a public address and nothing is encrypted yet"},
		{[]string{"-dev", "-bind", "127.0.9.3", "-name", "a\x1b[2J"}, `name "a\x1b[2J"`},
		{[]string{"-server", "-bind", "127.0.9.3", "-data-dir", data, "-bootstrap-expect", "-1"}, "bootstrap-expect -1"},
		{[]string{"-server", "-bind", "127.0.9.1", "-data-dir", data}, "port 5555 on 127.0.9.1 is taken"},
		{[]string{"-server", "-bind", "127.0.9.3", "-data-dir", "/dev/null/x"}, "/dev/null/x"},
		{[]string{"-client", "-bind", "127.0.9.3", "-data-dir", "/dev/null/x"}, "/dev/null: not a directory"},
		{[]string{"-server", "-bind", "127.0.9.3", "-data-dir", binary}, "not a directory"},
		{[]string{"-client", "-bind", "127.0.9.3", "-data-dir", data, "-join", ""}, `invalid value "" for flag -join`},
		{[]string{"-client", "-bind", "127.0.9.3", "-data-dir", data, "-config", data}, "no such file or directory"},
		{[]string{"-client", "-bind", "127.0.9.3", "-data-dir", data, "-config", "/dev/zero"}, "has more than 65536 bytes"},
		{[]string{"-client", "-bind", "127.0.9.3", "-data-dir", data, "-config", t.TempDir()}, "holds no *.hcl file"},
		{config(`nmae = "x"`), `agent.hcl:1:1: `},
		{config("name = " + strings.Repeat("(", 60_000)), "agent.hcl:1:24: brackets and blocks are nested"},
		{config(strings.Repeat("a {\n", 16_000)), "agent.hcl:17:3: brackets and blocks are nested"},
		{config(`name = "x${1e10000000}"`), "agent.hcl:1:10: a configuration has no ${"},
		{config("server {\n  raft_multiplier = 1e10000000\n}"), "agent.hcl:2:21: a number has at most"},
		{config("client {\n  reserved {\n    memory = -1\n  }\n}"), "client.reserved: an amount is below zero"},
		// The two that are in use are refused whatever the port.
		{[]string{"-server", "-bind", "127.0.9.3", "-data-dir", v.server.dir}, v.server.dir + "/server is in use by another cube server: stop that one, or"},
		{[]string{"-client", "-bind", "127.0.9.3", "-data-dir", v.client.dir}, "another agent uses " + v.client.dir + "/client: stop it, or"},
	} {
		t.Run(fmt.Sprintf("%.80q", c.args), func(t *testing.T) {
			cli(t, nil, nil, append([]string{"agent"}, c.args...)...).complains(t, c.want)
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("it leaves %v, %v", left, err)
			}
		})
	}
	v.unharmed(t, "agents that did not start")
}
