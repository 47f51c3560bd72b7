package command

import (
	"strings"
	"testing"
	"time"

	"cube/api"
)

func TestVolumes(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		p.cube(0, "volume", "list")
		p.shows("No volumes. To make one: cube volume create -node <node> <name>")
		populated(c)
		c.nodes[0].Volumes = []api.NodeVolume{{Name: "assets", Path: "/srv/assets", ReadOnly: true}}
		c.allocs[1].Volumes = []api.VolumeRequest{{Name: "v", Source: "db-data", Access: api.AccessSingleWriter}}
		c.allocs[4].Volumes = []api.VolumeRequest{{Name: "v", Source: "assets", Access: api.AccessMultiReader}}
		c.allocs[1].NodeID, c.allocs[4].NodeID = c.nodes[0].ID, c.nodes[0].ID

		p.cube(0, "volume", "create", "db-data", "-node", c.nodes[0].ID, "-access", "single-writer")
		p.shows("Volume db-data is on node n1, empty: /var/lib/cube/client/volumes/db-data")
		c.nodes[0].Volumes[1].Made = &api.VolumeOrigin{By: "ann@host", At: time.Now().Add(-time.Hour)}
		p.fresh()
		p.cube(0, "volume", "list")
		golden(t, "volume_list", p.stdout.String())
		p.fresh()
		p.cube(0, "volume", "status", "db-data")
		golden(t, "volume_status", p.stdout.String())
		p.cube(0, "volume", "list", "-json")
		p.shows(`"By": "ann@host"`)
		p.cube(0, "volume", "status", "-t", "{{range .}}{{.Name}} {{.Hold}}{{end}}", "assets")
		p.shows("assets 1 reader")

		p.cube(0, "volume", "delete", "db-data")
		p.shows("Volume db-data of node n1 is deleted; what was in it stays in /var/lib/cube/client/volumes/db-data")
		p.cube(0, "volume", "create", "-node", c.nodes[0].ID, "db-data")
		p.cube(0, "volume", "delete", "-data", "-yes", "db-data")
		p.shows("Volume db-data of node n1 is deleted; with what was in it")
	})
}

func TestVolumesThatAreNot(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		populated(c)
		for want, args := range map[string][]string{
			"say with -node on which node":                       {"create", "data"},
			`volume name "../data" is not a name`:                {"create", "-node", "n1", "../data"},
			`access "rw" is none of single-writer, multi-writer`: {"create", "-node", "n1", "-access", "rw", "data"},
			"no node has a volume of that name":                  {"status", "data"},
			`no node has a volume "data"`:                        {"delete", "data"},
			"it cannot be undone and nobody is there to ask":     {"delete", "-data", "data"},
		} {
			p.fresh()
			p.cube(1, append([]string{"volume"}, args...)...)
			if !strings.Contains(p.stderr.String(), want) {
				t.Errorf("%v: %s\nwant %q", args, p.stderr.String(), want)
			}
		}
	})
}
