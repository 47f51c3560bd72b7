package agent

import (
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"

	"cube/client/driver"
	"cube/client/driver/docker"
	rawexec "cube/client/driver/raw_exec"
)

// DriverFactory makes a client's drivers for one owner.
type DriverFactory func(driver.Owner) ([]driver.Driver, error)

// hostDrivers are the drivers of a real machine: docker always, so that a node without an engine says what is missing,
// and raw_exec where it is allowed.
func hostDrivers(dataDir string, rawExec bool, logger hclog.Logger) DriverFactory {
	return func(owner driver.Owner) ([]driver.Driver, error) {
		d, err := docker.New(docker.Config{Owner: owner, DataDir: filepath.Join(dataDir, "docker"), Logger: logger.Named("docker")})
		if err != nil {
			return nil, err
		}
		drivers := []driver.Driver{d}
		if !rawExec {
			return drivers, nil
		}
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		r, err := rawexec.New(rawexec.Config{Owner: owner, Dir: filepath.Join(dataDir, "raw_exec"), Executable: self, Logger: logger.Named("raw_exec")})
		if err != nil {
			return nil, err
		}
		return append(drivers, r), nil
	}
}

// Supervise is the hidden command that stands beside each raw_exec instance; see package rawexec.
func Supervise(args []string) int { return rawexec.Supervise(args) }
