package agent

import (
	"fmt"
	"path/filepath"

	"github.com/hashicorp/go-hclog"

	"cube/agent/server"
)

// Recover makes the server in a data directory (an agent's, which must not be running) the only voter of its cluster and
// says what it did: the way out when a majority of the servers is gone for good.
func Recover(dataDir string) (string, error) {
	if dataDir == "" {
		var err error
		if dataDir, err = DefaultDataDir(); err != nil {
			return "", err
		}
	}
	p, err := server.Recover(filepath.Join(dataDir, "server"), hclog.NewNullLogger())
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("Server %s at %s is now the only voter. Start it, then let the others join it anew with empty data directories.", p.ID, p.Address), nil
}
