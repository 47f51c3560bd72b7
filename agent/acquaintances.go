package agent

import (
	"net/netip"
	"os"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// acquaintancesFile holds the gossip addresses of servers met before, one a line.
const acquaintancesFile = "gossip-servers"

// acquaintances are kept so that an agent that restarts finds the others although the member that -join names is down, or
// is itself. They are a convenience: what cannot be read or kept is done without.
type acquaintances struct {
	path   string
	logger hclog.Logger
}

func (a acquaintances) save(servers []string) {
	if err := writeSynced(a.path, strings.Join(servers, "\n")+"\n"); err != nil {
		a.logger.Warn("the servers met are not kept; after a restart only -join is tried", "error", err)
	}
}

func (a acquaintances) load() []string {
	b, err := os.ReadFile(a.path)
	if err != nil {
		return nil
	}
	var servers []string
	for line := range strings.Lines(string(b)) {
		if addr := strings.TrimSpace(line); len(servers) < 64 {
			if _, err := netip.ParseAddrPort(addr); err == nil {
				servers = append(servers, addr)
			}
		}
	}
	return servers
}
