package docker

import (
	"context"
	"os"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cube/client/driver"
	"cube/client/driver/drivertest"
	"cube/internal/hello/helloimage"
)

// TestMain makes the image that the tests run. Without an engine they fail: what is not tested must not look so.
func TestMain(m *testing.M) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if _, err := helloimage.Ensure(ctx); err != nil {
		os.Stderr.WriteString("these tests need a Docker engine and the Go command: " + err.Error() + "\n")
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// open makes a driver over the machine's engine.
func open(t testing.TB, owner driver.Owner, dir string) *Driver {
	t.Helper()
	d, err := New(Config{Owner: owner, DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// configure maps a program of the suite to the hello image.
func configure(c *driver.Config, p drivertest.Program) {
	c.Image = helloimage.Tag
	c.Args = nil
	if p.Serve {
		c.Args = append(c.Args, "-listen", ":8080")
	} else {
		c.Args = append(c.Args, "-listen", "none")
	}
	c.Args = append(c.Args, "-lines", strconv.Itoa(p.Lines), "-exit-code", strconv.Itoa(p.ExitCode), "-memory", strconv.Itoa(p.Memory))
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
	if p.Get != "" {
		c.Args = append(c.Args, "-get", p.Get)
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
	return append([]string{"/hello"}, c.Args...)
}

func TestContract(t *testing.T) {
	drivertest.Run(t, drivertest.Harness{
		Engine: func(t *testing.T) drivertest.Open {
			dir := t.TempDir()
			return func(t *testing.T, owner driver.Owner) driver.Driver {
				return open(t, owner, dir+"/"+owner.ClusterID+owner.NodeID)
			}
		},
		Configure: configure,
		Command:   command,
		Break: func(c *driver.Config) {
			c.Args, c.Options = nil, map[string]any{"entrypoint": []string{"/no-such-program"}}
		},
		Ports:       true,
		Surrounding: true,
		OOM:         true,
		Counts:      true,
		Parts:       true,
		Networks:    true,
	})
}
