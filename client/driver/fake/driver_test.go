package fake_test

import (
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
			o := map[string]any{"exit_code": p.ExitCode, "lines": p.Lines, "ignore_signal": p.IgnoreTerm}
			if p.Ends {
				o["run_for"] = p.After.String()
			}
			if p.Memory > 0 {
				o["run_for"], o["oom"] = "1ms", true
			}
			c.Options = o
		},
		Break: func(c *driver.Config) { c.Options = map[string]any{"start_error": "no such image"} },
		OOM:   true,
	})
}
