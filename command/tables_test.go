package command

import (
	"strings"
	"testing"
	"time"

	"cube/api"
)

const gpu = "GPU-1f0e0c9a-0000-0000-0000-000000000001"

// populated fills a cluster with one of everything there is to show.
func populated(c *fakeCluster) (web string) {
	n1 := c.addNode("n1", func(n *api.NodeView) {
		n.Held, n.Running, n.Allocations = api.Resources{CPU: 1500, Memory: 6963, Disk: 300}, 3, 3
		n.Load = &api.NodeLoad{CPU: 700, CPUTotal: 4000, Memory: 2048, MemoryTotal: 8192, Disk: 5120, DiskTotal: 102400, Load1: 0.7, Load5: 0.45, Uptime: 50 * time.Hour}
		n.Meta = map[string]string{"rack": "r1"}
		n.Devices = []api.DeviceGroup{
			{Type: "gpu", Model: "A100-SXM4-40GB", IDs: []string{gpu, "GPU-9e51d0a2-0000-0000-0000-000000000002"}, Attributes: map[string]string{"vendor": "nvidia", "driver_version": "470.82.01"}},
			{Type: "kvm", IDs: []string{"kvm-00"}, Attributes: map[string]string{"path": "/dev/kvm"}},
		}
		n.DeviceUse = []api.DeviceUse{{Type: "gpu", Model: "A100-SXM4-40GB", ID: gpu, Held: 250}, {Type: "gpu", ID: n.Devices[0].IDs[1]},
			{Type: "kvm", ID: "kvm-00", Held: 1000}, {Type: "kvm", ID: "kvm-01", Held: 500, Gone: true}}
	})
	n2 := c.addNode("n2", func(n *api.NodeView) {
		n.Address, n.Ineligible = "10.0.0.2", true
		n.Resources.Memory = 512
		n.Drivers = map[string]api.DriverInfo{
			"docker":   {Detected: false, Reason: "no socket at /var/run/docker.sock; install docker.io or start dockerd"},
			"raw_exec": {Detected: false, Reason: "switched off"},
		}
	})
	c.addNode("n3", func(n *api.NodeView) {
		n.Status, n.StatusReason, n.LastContact = api.NodeDown, "its session is gone and gossip says failed", time.Time{}
	})
	job := webJob(2)
	job.Version, job.SubmittedAt, job.Datacenters = 4, time.Now().Add(-26*time.Hour), []string{"dc1", "dc2"}
	shop := &api.Job{Name: "shop", Type: api.JobBatch, Priority: 70, Version: 1, SubmittedAt: time.Now(), Tasks: []*api.Task{api.DefaultTask("cart"), api.DefaultTask("pay")}}
	c.do(func() {
		c.jobs["web"], c.jobs["shop"] = job, shop
		c.evals = append(c.evals,
			&api.Evaluation{ID: c.mint(), Job: "shop", Type: api.JobBatch, Priority: 70, Cause: api.CauseRegister, Status: api.EvalComplete, JobVersion: 1, Placed: 2, At: time.Now().Add(-time.Minute)},
			&api.Evaluation{ID: c.mint(), Job: "web", Type: api.JobService, Priority: 50, Cause: api.CauseNodeDown, Node: n2.ID, Status: api.EvalBlocked, JobVersion: 4, Placed: 1,
				At: time.Now().Add(-3*time.Minute - 12*time.Second), Explanations: []api.Explanation{{
					Task: "web", Wanted: 2, Placed: 1, Nodes: 3, Filters: []api.FilterCount{
						{Filter: "ready", Nodes: 2, Seen: "down"}, {Filter: "constraint attr.class = edge", Nodes: 1, Wanted: "edge", Seen: "core"},
					}, Nearest: &api.NearestMiss{Node: "n1", Filter: "constraint attr.class = edge", Wanted: "edge", Seen: "core"},
				}}})
	})
	c.place(job, "web", 0, n1, func(a *api.Allocation) {
		a.JobVersion, a.Desired, a.DesiredReason, a.Phase = 3, api.DesiredStop, "a newer version", api.PhaseComplete
		a.CreatedAt = time.Now().Add(-48 * time.Hour)
	})
	web = c.place(job, "web", 0, n1, func(a *api.Allocation) {
		a.Phase, a.Ports, a.StartedAt, a.CreatedAt = api.PhaseRunning, []api.PortBinding{{Label: "http", Host: 23411, To: 80}}, time.Now().Add(-time.Hour), time.Now().Add(-25*time.Hour)
		a.Resources, a.Health = api.Resources{CPU: 100, Memory: 128, Disk: 300}, api.HealthHealthy
	})
	c.do(func() { c.use = map[string]api.Usage{web: {CPU: 42, Memory: 31, At: time.Now()}} })
	c.do(func() {
		c.checks = map[string][]api.CheckStatus{web: {
			{Name: "up", Type: api.CheckHTTP, Every: 10 * time.Second, Health: api.HealthHealthy},
			{Name: "db", Type: api.CheckTCP, Every: time.Minute, Health: api.HealthUnhealthy, Message: "connect to 10.0.0.9:5432: connection refused"},
			{Name: "new", Type: api.CheckGRPC, Every: 1500 * time.Millisecond},
		}}
	})
	one := 1
	broken := c.place(job, "web", 1, n2, func(a *api.Allocation) {
		a.Phase, a.Restarts, a.ExitCode, a.StartedAt = api.PhasePending, 7, &one, time.Now().Add(-2*time.Minute)
		a.Ports = []api.PortBinding{{Label: "admin", Host: 20001, To: 9000}, {Label: "http", Host: 20000, To: 80}}
		a.Message = "exited with code 1; restart 7 in 1m4s"
	})
	c.say(broken, "starting", "listening")
	c.cry(broken, "panic: no database")
	c.place(shop, "cart", 0, n1, func(a *api.Allocation) { a.Phase = api.PhaseComplete })
	c.place(shop, "pay", 0, n1, func(a *api.Allocation) {
		a.Phase, a.Devices = api.PhaseRunning, []api.DeviceClaim{{Type: "gpu", ID: gpu, Share: 250}, {Type: "kvm", ID: "kvm-00", Share: api.WholeDevice}}
	})
	c.do(func() {
		c.events = append(c.events, &api.EventView{At: time.Now().Add(-26 * time.Hour), Job: "web", Text: "version 3 submitted by alice@laptop: web.hcl"})
		for i, text := range []string{"version 4 submitted by bob@laptop: web.hcl", "roll-out of version 4 begins",
			"web[0] placed on n1: version 4", "web[1] placed on n2: node n3 is down", "web[1] restarted 7 times in 2m: exited with code 1"} {
			c.events = append(c.events, &api.EventView{At: time.Now().Add(time.Duration(i-5) * time.Hour), Job: "web", Task: "web", Text: text})
		}
	})
	n2.EligibilityAt, n2.EligibilityBy, n2.EligibilityReason = time.Now().Add(-30*time.Minute), "alice@laptop", "new disks"
	c.do(func() {
		c.events = append(c.events, &api.EventView{At: n2.EligibilityAt, Topic: api.TopicNode, Type: "ineligible", NodeIDs: []string{n2.ID}, By: "alice@laptop", Detail: "new disks", Text: "node n2 is ineligible by alice@laptop: new disks"},
			&api.EventView{At: time.Now().Add(-time.Hour), Topic: api.TopicNode, Type: "ready", NodeIDs: []string{n1.ID}, Text: "node n1 is ready"})
	})
	c.members = []api.Member{
		{Name: "s1", Role: api.RoleServer, Status: api.MemberAlive, GossipAddr: "10.0.0.9:5557", Leader: true, Version: "0.1.0", Datacenter: "dc1"},
		{Name: "s2", Role: api.RoleServer, Status: api.MemberFailed, GossipAddr: "[fd00::2]:5557", Version: "0.1.0", Datacenter: "dc1"},
		{Name: "n1", Role: api.RoleClient, Status: api.MemberAlive, GossipAddr: "10.0.0.1:40001", Version: "0.1.0", Datacenter: "dc1"},
	}
	c.peers = []api.RaftPeer{
		{ID: "8c1d22e0aaaa", Name: "s1", Address: "10.0.0.9:5556", Leader: true, Voter: true, LastSeen: "now"},
		{ID: "8c1d33f1bbbb", Name: "s2", Address: "10.0.0.8:5556", Voter: true, LastSeen: "4m ago"},
	}
	return web
}

func TestWhatCommandsShow(t *testing.T) {
	for name, line := range map[string]string{
		"task_status":         "task status",
		"task_status_web":     "status web",
		"task_status_pay":     "task status shop/pay",
		"task_status_verbose": "task status web -verbose",
		"node_status":         "node status",
		"node_status_n1":      "node status n1",
		"node_status_verbose": "node status n1 -verbose",
		"node_status_n2":      "node status n2",
		"alloc_status":        "alloc status",
		"eval_status":         "eval status",
		"server_members":      "server members",
		"raft_list_peers":     "operator raft list-peers",
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
				populated(c)
				p.cube(0, strings.Fields(line)...)
				golden(t, name, p.stdout.String())
			})
		})
	}
}

func TestStatusShowsHealthWhereThereAreChecks(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		n, job := c.addNode("n1", nil), webJob(3, api.DefaultCheck("up"))
		job.Version = 2
		c.do(func() { c.jobs["web"] = job })
		for slot, health := range []api.HealthStatus{api.HealthHealthy, api.HealthUnhealthy, api.HealthUnknown} {
			id := c.place(job, "web", slot, n, nil)
			c.phase(id, api.PhaseRunning, "")
			c.set(id, func(a *api.Allocation) { a.Health = health })
			if health == api.HealthUnhealthy {
				c.set(id, func(a *api.Allocation) { a.Message = "check up: 503 Service Unavailable: no database" })
				c.say(id, "the database does not answer")
			}
		}
		p.cube(0, "status", "web")
		golden(t, "task_status_health", p.stdout.String())
		p.cube(0, "status", "web", "-json")
		p.shows(`"Health": "unhealthy"`, `"Healthy": 1`)
	})
}

func TestDevicesOfAnInstanceAndTroubleWithThem(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		n := c.addNode("n1", func(n *api.NodeView) {
			n.Attributes["device.trouble"] = "GPU 0000:07:00.0: it is not initialized, so it has no UUID yet"
		})
		id := c.place(webJob(1), "web", 0, n, func(a *api.Allocation) {
			a.Devices = []api.DeviceClaim{{Type: "gpu", ID: gpu, Share: 250}, {Type: "kvm", ID: "/dev/kvm\x1b[2J", Share: api.WholeDevice}}
		})
		p.cube(0, "alloc", "status", id)
		p.shows("Type  ID                                        Share")
		p.shows("gpu   GPU-1f0e0c9a-0000-0000-0000-000000000001  0.25")
		p.cube(0, "alloc", "status", id, "-json")
		p.shows(`"Share": 250`)
		p.cube(0, "node", "status")
		p.shows("n1: not offered: GPU 0000:07:00.0: it is not initialized, so it has no UUID yet")
		if strings.Contains(p.stdout.String(), "\x1b") {
			t.Error("a terminal would act on an ID")
		}
	})
}

func TestNodeStatusSaysThatANodeIsNotConnected(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		c.addNode("n1", func(n *api.NodeView) { n.Connected = false })
		p.cube(0, "node", "status")
		p.shows("n1: it has no session with a server")
	})
}

func TestJSONIsWrittenForPeopleToo(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		job := webJob(1)
		job.Version, job.Tasks[0].Env = 1, map[string]string{"PASSWORD": "<sensitive>"}
		c.do(func() { c.jobs["web"] = job })
		p.cube(0, "status", "web", "-json")
		p.cube(0, "status", "web", "-t", "{{json .Job}}")
		if n := strings.Count(p.stdout.String(), `"<sensitive>"`); n != 2 {
			t.Errorf("%d of 2 as they are:\n%s", n, p.stdout.String())
		}
	})
}

func TestWhatNeverStartedHasNoExit(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		code := 0
		id := c.place(webJob(1), "web", 0, c.addNode("n1", nil), func(a *api.Allocation) {
			a.ExitCode, a.FinishedAt, a.Restarts, a.Message = &code, time.Now(), 1, "start failed: no such image"
		})
		p.cube(0, "alloc", "status", id)
		if text := p.stdout.String(); strings.Contains(text, "Last Exit") || strings.Contains(text, "Finished") {
			t.Errorf("an end of what never began:\n%s", text)
		}
	})
}

// On a terminal an address is whole, whatever else must give way; with -verbose and in a pipe everything is.
func TestNarrowTerminalsKeepWhatIsTyped(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		populated(c)
		for _, columns := range []int{40, 80, 100} {
			p.columns, p.rows, p.stdout = columns, 24, buffer{}
			p.cube(0, "status", "web")
			p.cube(0, "server", "members")
			p.shows("10.0.0.1:23411", "admin=10.0.0.2:20001,http=10.0.0.2:20000", "fd00::2")
		}
		p.stdout = buffer{}
		p.columns = 80
		p.cube(0, "node", "status")
		text := colours.ReplaceAllString(p.stdout.String(), "")
		header, _, _ := strings.Cut(text, "\n")
		if textWidth(header) > 80 || strings.Contains(header, "Version") || !strings.Contains(header, "Last Contact") {
			t.Errorf("on 80 columns the header is %q", header)
		}
		p.stdout = buffer{}
		p.cube(0, "status", "-verbose", "web")
		p.cube(0, "node", "status", "-verbose")
		if strings.Contains(p.stdout.String(), "…") {
			t.Errorf("-verbose is shortened:\n%s", p.stdout.String())
		}
	})
}

func TestStatusLeavesOutOldHistory(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		node := c.addNode("n1", nil)
		job := webJob(1)
		job.Version = 1
		c.do(func() { c.jobs["web"] = job })
		ended := func(a *api.Allocation) { a.Phase, a.Desired = api.PhaseComplete, api.DesiredStop }
		first, second := c.place(job, "web", 0, node, ended), c.place(job, "web", 0, node, ended)
		beyond := c.place(job, "web", 1, node, ended)
		running := c.place(job, "web", 0, node, nil)
		leftover := c.place(job, "web", 2, node, nil) // not gone yet
		p.cube(0, "status", "web")
		p.shows(running[:8], second[:8], leftover[:8], "2 former instances not shown; see -verbose")
		for _, id := range []string{first, beyond} {
			if strings.Contains(p.stdout.String(), id[:8]) {
				t.Errorf("%s is shown:\n%s", id, p.stdout.String())
			}
		}
		p.stdout = buffer{}
		p.cube(0, "status", "web", "-verbose")
		p.shows(first, second, beyond, running, leftover)
	})
}

func TestOneAllocationAndOneEvaluationByPrefix(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		id := populated(c)
		p.cube(0, "alloc", "status", id[:5])
		golden(t, "alloc_status_one", p.stdout.String())
		p.stdout = buffer{}
		p.cube(0, "eval", "status", c.text.Format(c.evals[1].ID)[:8])
		golden(t, "eval_status_one", p.stdout.String())
	})
}

// TestRemoteTextCannotTouchTheTerminal puts control characters wherever text of others is shown.
func TestRemoteTextCannotTouchTheTerminal(t *testing.T) {
	const evil = "x\x1b[2J\x1b]0;t\x07\r\n\u202e\x9b\x80y"
	for _, line := range []string{"task status", "task status web", "node status", "node status n1", "alloc status", "alloc status -verbose", "server members", "operator raft list-peers"} {
		bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
			id := populated(c)
			c.do(func() {
				c.jobs["web"].Datacenters = []string{evil}
				n := c.nodes[0]
				n.Attributes, n.Meta, n.Version, n.StatusReason, n.Datacenter = map[string]string{evil: evil}, map[string]string{"rack": evil}, evil, evil, evil
				n.Drivers = map[string]api.DriverInfo{evil: {Detected: true, Reason: evil}}
				c.members[0].Name, c.members[0].GossipAddr, c.peers[0].LastSeen = evil, evil, evil
				c.evals[1].Explanations[0].Filters[0].Seen = evil
			})
			c.set(id, func(a *api.Allocation) { a.NodeName, a.Message, a.Restarts, a.StartedAt = evil, evil, 3, time.Now() })
			c.say(id, evil)
			p.cube(0, strings.Fields(line)...)
			if i := strings.IndexFunc(p.stdout.String(), func(r rune) bool { return r != '\n' && unsafeRune(r) }); i >= 0 {
				t.Errorf("cube %s prints a control character: %q", line, p.stdout.String()[i:])
			}
			if !strings.Contains(p.stdout.String(), `x\x1b[2J`) && line != "task status" {
				t.Errorf("cube %s hides the text:\n%s", line, p.stdout.String())
			}
		})
	}
}

func TestATerminalNarrowsTablesAndColoursThem(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		populated(c)
		p.columns, p.rows = 95, 24
		p.cube(0, "node", "status")
		for line := range strings.Lines(p.stdout.String()) {
			if strings.Contains(line, "driver") || strings.Contains(line, "down:") {
				continue // reasons are not cut: they say what to do
			}
			if w := textWidth(strings.TrimSuffix(line, "\n")); w > p.columns {
				t.Errorf("%d columns wide on a terminal of %d: %q", w, p.columns, line)
			}
		}
		p.shows(green+"ready"+reset, red+"down"+reset, bold+"ID")
		for _, off := range [][]string{{"-no-color"}, nil} {
			p.stdout = buffer{}
			if off == nil {
				p.env["NO_COLOR"] = "1"
			}
			p.cube(0, append([]string{"node", "status"}, off...)...)
			if strings.Contains(p.stdout.String(), "\x1b") {
				t.Errorf("colours with %v, NO_COLOR=%q", off, p.env["NO_COLOR"])
			}
		}
	})
}

func TestEveryReadSpeaksJSONAndTemplates(t *testing.T) {
	for _, line := range []string{
		"task status", "task status web", "node status", "node status n1", "alloc status", "eval status", "server members", "operator raft list-peers",
	} {
		bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
			populated(c)
			p.cube(0, append(strings.Fields(line), "-json")...)
			if out := p.stdout.String(); !strings.HasPrefix(out, "{") && !strings.HasPrefix(out, "[") {
				t.Errorf("%s -json: %s", line, out)
			}
			p.stdout = buffer{}
			p.cube(0, append(strings.Fields(line), "-t", "{{json .}}")...)
			if strings.Count(p.stdout.String(), "\n") != 1 || p.stderr.String() != "" {
				t.Errorf("%s -t: %s%s", line, p.stdout.String(), p.stderr.String())
			}
			p.cube(1, append(strings.Fields(line), "-json", "-t", "x")...)
			p.complains("-json and -t exclude each other")
			p.cube(1, append(strings.Fields(line), "-t", "{{.")...)
			p.complains("Error reading the template of -t: ")
		})
	}
}

func TestATemplatePrintsWhatItIsAskedFor(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		populated(c)
		p.cube(0, "node", "status", "-t", "{{range .}}{{.Name}} {{.Status}}\n{{end}}")
		if got, want := p.stdout.String(), "n1 ready\nn2 ready\nn3 down\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		p.cube(1, "node", "status", "-t", "{{range .}}{{.Nonsense}}{{end}}")
		p.complains("Error filling in the template of -t: ")
	})
}

func TestStatusWithoutALeaderIsStaleAndSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		populated(c)
		c.fail = func(_ string, q api.Query) error {
			if q.Stale {
				return nil
			}
			return api.Errorf(api.CodeNoLeader, "no leader")
		}
		p.cube(0, "status", "web")
		p.shows("Name        = web")
		p.complains("The servers have no leader: this is what one of them last knew")
		p.stderr = buffer{}
		p.cube(0, "node", "status", "n1", "-stale")
		if p.stderr.String() != "" {
			t.Errorf("what was asked for needs no remark: %s", p.stderr.String())
		}
	})
}

func TestUnknownAndAmbiguousNames(t *testing.T) {
	for line, want := range map[string]string{
		"status nope":                       `Error reading the status of "nope": no job is named "nope"`,
		"status shop/nope":                  `job "shop" has no task "nope"; it has cart, pay`,
		"stop nope":                         `Error stopping "nope": no job is named "nope"`,
		"stop shop/pay":                     "tasks stop with their job",
		"logs nope":                         `Error reading the output of "nope": no job is named "nope"`,
		"logs web -instance 9":              "it has no instance 9",
		"logs web -tail -2":                 "-tail is a number of lines",
		"node status nope":                  `Error reading node "nope": no node has an ID that begins with "nope"`,
		"node status 6e3":                   "3 nodes have IDs that begin with",
		"node eligibility n1":               "give one of -enable and -disable",
		"node drain nope":                   `Error reading node "nope": no node has an ID that begins with "nope"`,
		"node drain n1 -deadline -5m":       "the deadline -5m0s is negative",
		"node drain n1 -deadline 0":         "to stop everything at once give -force",
		"node drain n1 -force -deadline 1m": "-force stops everything at once",
		"node drain n1 -keep-ineligible":    "-keep-ineligible goes with -cancel",
		"node drain n1 -cancel -message x":  "-message is for one that begins",
		"alloc status nope":                 `Error reading allocation "nope"`,
		"alloc stop nope":                   `Error reading allocation "nope"`,
		"alloc logs nope":                   `Error reading the output of allocation "nope"`,
		"eval status nope":                  `Error reading evaluation "nope"`,
		"operator raft remove-peer":         "takes one argument: <server>, got 0 arguments",
		"operator raft remove-peer nope":    "no server of the Raft configuration has this ID or name",
		"operator raft remove-peer 8c1d":    "2 servers are meant by it",
		"operator raft recover -data-dir=x": "nobody is there to ask; give -yes",
	} {
		bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
			p.meta.Recover = func(string) (string, error) { t.Error("recovered unasked"); return "", nil }
			populated(c)
			p.cube(1, strings.Fields(line)...)
			p.complains(want)
			if p.stdout.String() != "" {
				t.Errorf("cube %s wrote to stdout: %s", line, p.stdout.String())
			}
		})
	}
}

func TestEligibilityByName(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		populated(c)
		p.cube(0, "node", "eligibility", "n1", "-disable")
		p.shows("Node n1 (6e310000) is now ineligible")
		if !c.nodes[0].Ineligible {
			t.Error("it is still eligible")
		}
	})
}

func TestNodeDrain(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		populated(c)
		p.cube(0, "node", "drain", "n1", "-deadline", "30m", "-message", "kernel update")
		p.shows("Node n1 (6e310000): being drained, 30m left; by ")
		p.shows(": kernel update")
		p.shows("0 of 3 instances moved, web[0] waits to be healthy on n2, web[1] waits to be healthy on n2, web[2] waits to be healthy on n2")
		p.shows("2 of 3 instances moved, web[2] waits to be healthy on n2")
		p.shows("Node n1 is drained: 3 instances gone in 1m")
		p.cube(0, "node", "drain", "-detach", "-force", "n1")
		p.shows("Node n1 (6e310000): being drained, 0s left; by ")
		p.cube(0, "node", "drain", "-cancel", "n1", "-keep-ineligible")
		p.shows("Node n1 (6e310000) is not being drained any more; it is ineligible")
	})
}

func TestServerLeaveAndRaftPeers(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		populated(c)
		p.cube(0, "operator", "raft", "remove-peer", "s2")
		if len(c.peers) != 1 || c.peers[0].Name != "s1" {
			t.Errorf("peers: %+v", c.peers)
		}
		p.cube(0, "server", "leave")
		if !c.left {
			t.Error("it was not asked to leave")
		}
		p.meta.Recover = func(dir string) (string, error) { return "recovered " + dir, nil }
		p.cube(0, "operator", "raft", "recover", "-yes", "-data-dir", "/d")
		p.shows("recovered /d")
	})
}
