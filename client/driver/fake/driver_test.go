package fake_test

import (
	"strconv"
	"testing"

	"cube/client/driver"
	"cube/client/driver/drivertest"
	"cube/client/driver/fake"
)

func TestContract(t *testing.T) {
	drivertest.Run(t, drivertest.Harness{
		Engine: func(t *testing.T) drivertest.Open {
			e := fake.NewEngine()
			return func(t *testing.T, owner driver.Owner) driver.Driver { return e.Driver(owner) }
		},
		Configure: func(c *driver.Config, p drivertest.Program) {
			o := map[string]any{"exit_code": p.ExitCode, "lines": p.Lines, "ignore_signal": p.IgnoreTerm, "use_cpu": 100, "use_memory": 16}
			if p.Ends {
				o["run_for"] = p.After.String()
			}
			if p.Memory > 0 {
				o["run_for"], o["oom"], o["ignore_signal"] = "1ms", true, true
			}
			c.Options = o
		},
		Command: command,
		Break:   func(c *driver.Config) { c.Options = map[string]any{"start_error": "no such image"} },
		OOM:     true,
		Counts:  true,
		Parts:   true,
	})
}

// command is a program of the suite in the words of Exec.
func command(p drivertest.Program) []string {
	var words []string
	for i := 1; i <= p.Lines; i++ {
		words = append(words, "echo", "out", strconv.Itoa(i), ";", "warn", "err", strconv.Itoa(i), ";")
	}
	switch {
	case p.Echo:
		words = append(words, "cat", ";")
	case p.Size:
		words = append(words, "size", ";")
	}
	return append(words, "exit", strconv.Itoa(p.ExitCode))
}
