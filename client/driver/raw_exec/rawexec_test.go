package rawexec

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cube/client/driver"
	"cube/client/driver/cgroup"
	"cube/client/driver/drivertest"
	"cube/internal/hello/helloimage"
)

// helloVariable tells the tests where the program is that instances run.
const helloVariable = "CUBE_TEST_HELLO"

// TestMain is also the supervisor: the driver starts this very program again.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "supervise" {
		os.Exit(Supervise(os.Args[2:]))
	}
	os.Exit(withHello(m))
}

func withHello(m *testing.M) int {
	dir, err := os.MkdirTemp("", "cube-raw-exec-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	path, err := helloimage.Binary(ctx, dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.Setenv(helloVariable, path)
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

func open(t testing.TB, owner driver.Owner, dir string) *Driver {
	t.Helper()
	d, err := New(Config{Owner: owner, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// configure maps a program of the suite to hello.
func configure(c *driver.Config, p drivertest.Program) {
	c.Command = os.Getenv(helloVariable)
	c.Args = []string{"-lines", strconv.Itoa(p.Lines), "-exit-code", strconv.Itoa(p.ExitCode), "-memory", strconv.Itoa(p.Memory)}
	if p.Serve {
		c.Env["CUBE_PORT_http"] = strconv.Itoa(c.Ports[0].Host)
	} else {
		c.Args = append(c.Args, "-listen", "none")
	}
	if p.Show {
		c.Args = append(c.Args, "-show")
	}
	if p.Ends {
		c.Args = append(c.Args, "-exit-after", p.After.String())
	}
	if p.IgnoreTerm {
		c.Args = append(c.Args, "-ignore-term")
	}
	if p.Echo {
		c.Args = append(c.Args, "-echo")
	}
	if p.Size {
		c.Args = append(c.Args, "-size")
	}
	c.Args = append(c.Args, p.Args...)
}

// command is a program of the suite beside an instance.
func command(p drivertest.Program) []string {
	c := &driver.Config{Env: map[string]string{}}
	configure(c, p)
	return append([]string{os.Getenv(helloVariable)}, c.Args...)
}

func TestContract(t *testing.T) {
	drivertest.Run(t, drivertest.Harness{
		Engine: func(t *testing.T) drivertest.Open {
			dir := t.TempDir()
			return func(t *testing.T, owner driver.Owner) driver.Driver {
				return open(t, owner, filepath.Join(dir, owner.ClusterID+owner.NodeID))
			}
		},
		Configure:   configure,
		Command:     command,
		Break:       func(c *driver.Config) { c.Command = "/no/such/program" },
		Ports:       true,
		Surrounding: true,
		OOM:         cgroupVersion(cgroup.Root) != "",
		Counts:      cgroupVersion(cgroup.Root) != "",
	})
}
