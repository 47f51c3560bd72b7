package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"
	"go.uber.org/goleak"

	"cube/api"
	"cube/internal/memnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const seed = 42

// world is a network with latency and a little loss.
func world(t *testing.T) *memnet.Network {
	n := memnet.New(seed)
	n.SetLatency(time.Millisecond, time.Millisecond)
	n.SetLoss(0.01)
	t.Cleanup(n.Close)
	return n
}

// agent is a pool that runs on a host of its own.
type agent struct {
	*Pool
	ip   string
	logs *logs
	stop func() // and wait
}

type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logs) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

func server(i int) api.Member {
	return api.Member{Role: api.RoleServer, ID: fmt.Sprintf("s%d", i), Name: fmt.Sprintf("host%d", i), RPCAddr: fmt.Sprintf("10.0.0.%d:5556", i), Expect: 3}
}

func client(i int) api.Member {
	return api.Member{Role: api.RoleClient, ID: fmt.Sprintf("n%d", i), Name: fmt.Sprintf("host%d", i)}
}

func start(t *testing.T, n *memnet.Network, ip string, self api.Member, join ...string) *agent {
	t.Helper()
	return startWith(t, n, ip, Config{Self: self}, join...)
}

// startWith fills in the transport and the logger.
func startWith(t *testing.T, n *memnet.Network, ip string, c Config, join ...string) *agent {
	t.Helper()
	a := &agent{ip: ip, logs: &logs{}}
	trans, err := n.Host(ip).Transport(":5557")
	if err != nil {
		t.Fatal(err)
	}
	c.Transport, c.Logger = trans, hclog.New(&hclog.LoggerOptions{Output: a.logs, Level: hclog.Info})
	a.Pool, err = New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx, join) }()
	a.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run of %s: %v", c.Self.ID, err)
		}
	})
	t.Cleanup(a.stop)
	return a
}

// cluster starts servers s1.. on 10.0.0.1.. and clients n1.. on the addresses after them.
func cluster(t *testing.T, n *memnet.Network, servers, clients int) (all []*agent) {
	t.Helper()
	for i := range servers + clients {
		self := server(i + 1)
		if i >= servers {
			self = client(i + 1 - servers)
		}
		all = append(all, start(t, n, fmt.Sprintf("10.0.0.%d", i+1), self, "10.0.0.1"))
	}
	for _, a := range all {
		await(t, 4*exchangeInterval, a.ip+" sees everyone", func() bool { return len(a.alive()) == len(all) })
	}
	return all
}

func (a *agent) alive() (ids []string) {
	for _, m := range a.Members() {
		if m.Status == api.MemberAlive {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

func (a *agent) status(id string) api.MemberStatus {
	for _, m := range a.Members() {
		if m.ID == id {
			return m.Status
		}
	}
	return ""
}

// await waits in virtual time, and returns how long it took.
func await(t *testing.T, within time.Duration, what string, f func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for !f() {
		if time.Since(begin) > within {
			t.Fatalf("not within %s (seed %d): %s", within, seed, what)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return time.Since(begin)
}

func TestServersAndClientsFindEachOther(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		all := cluster(t, world(t), 3, 3)
		for _, a := range all {
			var got []string
			for _, m := range a.Members() {
				got = append(got, fmt.Sprintf("%s %s %s %s", m.Role, m.Name, m.ID, m.GossipAddr))
			}
			want := []string{
				"server host1 s1 10.0.0.1:5557", "server host2 s2 10.0.0.2:5557", "server host3 s3 10.0.0.3:5557",
				"client host1 n1 10.0.0.4:5557", "client host2 n2 10.0.0.5:5557", "client host3 n3 10.0.0.6:5557",
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s sees %q", a.ip, got)
			}
		}
		m := all[5].Members()[1]
		if m.RPCAddr != "10.0.0.2:5556" || m.Expect != 3 || m.Status != api.MemberAlive {
			t.Errorf("a client sees %+v", m)
		}
		if n := all[5].logs.count("joined the cluster"); n != 1 {
			t.Errorf("the last to come said %d times that it has joined", n)
		}
	})
}

func TestADeadAgentIsNoticedWithinSeconds(t *testing.T) {
	for _, how := range []memnet.Death{memnet.Reset, memnet.Blackhole} {
		for _, size := range []int{1, 3, 8} {
			t.Run(fmt.Sprint(size+1, " agents, death ", how), func(t *testing.T) {
				memnet.Bubble(t, func(t *testing.T) {
					n := world(t)
					all := cluster(t, n, 1, size)
					last := all[len(all)-1]
					n.Crash(last.ip, how)
					for _, a := range all[:len(all)-1] {
						await(t, 8*time.Second, a.ip+" sees "+last.ip+" failed", func() bool {
							return a.status(last.self.ID) == api.MemberFailed
						})
					}
					if got := len(all[0].alive()); got != size {
						t.Errorf("%d of %d survivors are seen alive", got, size)
					}
				})
			})
		}
	}
}

// TestAQuietAgentIsNotDeaf meets one that did not expect it: the quiet one knows it at once, and sees it die, only later.
func TestAQuietAgentIsNotDeaf(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		n := world(t)
		quiet := startWith(t, n, "10.0.0.1", Config{Self: server(1), Quiet: true})
		guest := start(t, n, "10.0.0.2", client(1), "10.0.0.1")
		await(t, time.Second, "they see each other", func() bool { return len(quiet.alive()) == 2 && len(guest.alive()) == 2 })
		n.Crash(guest.ip, memnet.Blackhole)
		await(t, 2*time.Minute, "the guest's death is noticed", func() bool { return quiet.status("n1") == api.MemberFailed })
	})
}

func TestWhoLeavesHasNotFailed(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		all := cluster(t, world(t), 3, 1)
		begin := time.Now()
		all[3].stop()
		if took := time.Since(begin); took > 2*announce {
			t.Errorf("leaving took %s", took)
		}
		for _, a := range all[:3] {
			await(t, 2*time.Second, "n1 is gone", func() bool { return a.status("n1") != api.MemberAlive })
			if got := a.status("n1"); got != api.MemberLeft {
				t.Errorf("%s sees n1 %s", a.ip, got)
			}
		}
		time.Sleep(keepLeft + 2*rejoinEvery)
		if got := all[0].status("n1"); got != "" {
			t.Errorf("n1 is remembered as %s", got)
		}
	})
}

func TestARestartedAgentIsBack(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		n := world(t)
		all := cluster(t, n, 3, 1)
		old := all[3]

		n.Crash(old.ip, memnet.Reset) // and back before anyone has noticed, at the same address
		old.stop()
		n.Restart(old.ip)
		again := start(t, n, old.ip, client(1), "10.0.0.1")
		await(t, 5*time.Second, "it sees all", func() bool { return len(again.alive()) == 4 })

		n.Crash(old.ip, memnet.Reset) // and back at another one
		again.stop()
		moved := start(t, n, "10.0.0.9", client(1), "10.0.0.1")
		for _, a := range all[:3] {
			await(t, time.Minute, "the new address", func() bool {
				for _, m := range a.Members() {
					if m.ID == "n1" {
						return m.Status == api.MemberAlive && m.GossipAddr == moved.Addr()
					}
				}
				return false
			})
		}
		if all[0].logs.count("one agent at two addresses") > 2 {
			t.Error("the conflict is logged more than once a minute")
		}
	})
}

func TestUpdatesTravel(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		all := cluster(t, world(t), 3, 1)
		all[0].Update(func(self *api.Member) {
			self.ClusterID, self.HasState = "c1", true
			self.ID = "nonsense" // cannot be changed
		})
		for _, a := range all {
			await(t, 3*time.Second, a.ip+" knows", func() bool {
				m := a.Members()[0]
				return m.ID == "s1" && m.HasState && m.ClusterID == "c1"
			})
		}
		all[0].Update(func(self *api.Member) { self.Datacenter = strings.Repeat("d", 600) })
		if n := all[0].logs.count("too long for gossip"); n != 1 {
			t.Errorf("a change that is too long was logged %d times", n)
		}
	})
}

func TestEventsLoseNothingButIntermediateStates(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		n := world(t)
		all := cluster(t, n, 2, 3)
		watcher := all[0]
		for i := range 20 { // nobody reads
			all[1].Update(func(self *api.Member) { self.Version = fmt.Sprint(i) })
			time.Sleep(time.Second)
		}
		n.Crash(all[4].ip, memnet.Blackhole)
		all[3].stop()
		time.Sleep(20 * time.Second)

		latest := map[string]api.Member{}
		seen := 0
		for {
			synctest.Wait()
			select {
			case e := <-watcher.Events():
				latest[e.Member.ID] = e.Member
				seen++
				continue
			default:
			}
			break
		}
		if seen > 2*len(all) {
			t.Errorf("%d events for %d members: states were not overtaken", seen, len(all))
		}
		if latest["s1"].Status != api.MemberAlive || latest["s2"].Version != "19" || latest["n1"].Status != api.MemberAlive ||
			latest["n2"].Status != api.MemberLeft || latest["n3"].Status != api.MemberFailed {
			t.Errorf("the latest are %+v", latest)
		}
		watcher.stop()
		if _, open := <-watcher.Events(); open {
			t.Error("there are events after Run")
		}
	})
}

func TestALongPartitionHeals(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		n := world(t)
		all := cluster(t, n, 4, 2)
		n.Partition([]string{"10.0.0.1", "10.0.0.2", "10.0.0.5"})
		for _, a := range all {
			await(t, 20*time.Second, a.ip+" sees its half", func() bool { return len(a.alive()) == 3 })
		}
		time.Sleep(10 * time.Minute) // far beyond memberlist's gossip to the dead
		n.Heal()
		for _, a := range all {
			took := await(t, 90*time.Second, a.ip+" sees all", func() bool { return len(a.alive()) == 6 })
			t.Logf("%s after another %s", a.ip, took)
		}
	})
}

func TestAnotherClusterIsRefused(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		n := world(t)
		in := func(m api.Member, id string) api.Member { m.ClusterID = id; return m }
		a1 := start(t, n, "10.0.0.1", in(server(1), "aaa"))
		a2 := start(t, n, "10.0.0.2", in(server(2), "aaa"), "10.0.0.1")
		b1 := start(t, n, "10.0.0.3", in(server(3), "bbb"))
		b2 := start(t, n, "10.0.0.4", in(client(4), "bbb"), "10.0.0.3", "10.0.0.1")
		_, err := b1.Join(t.Context(), []string{"10.0.0.1"})
		if api.CodeOf(err) != api.CodeUnavailable || !strings.Contains(err.Error(), "it belongs to cluster aaa and this agent to cluster bbb") {
			t.Errorf("joining another cluster: %v", err)
		}
		// One that does not know its cluster meets both, and must not bring them together.
		start(t, n, "10.0.0.5", client(5), "10.0.0.1", "10.0.0.3")
		time.Sleep(5 * time.Minute)
		for _, c := range []struct {
			a    *agent
			want string
		}{{a1, "[s1 s2 n5]"}, {a2, "[s1 s2 n5]"}, {b1, "[s3 n4 n5]"}, {b2, "[s3 n4 n5]"}} {
			if got := fmt.Sprint(c.a.alive()); got != c.want {
				t.Errorf("%s sees %s, want %s", c.a.ip, got, c.want)
			}
			if n := c.a.logs.count("refused an agent of another cluster"); n > 6 {
				t.Errorf("%s said %d times in 5 minutes whom it refuses", c.a.ip, n)
			}
		}
		if a1.logs.count("refused an agent of another cluster") == 0 {
			t.Error("nobody was told")
		}
	})
}

func TestJoinToNothingSaysSo(t *testing.T) {
	for name, c := range map[string]struct{ join, says string }{
		"nothing listens": {"10.0.0.9", "cannot reach 10.0.0.9:5557: connection refused; still trying"},
		"a dead machine":  {"10.0.0.8:6000", "cannot reach 10.0.0.8:6000: i/o timeout; still trying"},
		"no machine":      {"10.0.0.7", "cannot reach 10.0.0.7:5557: no route to host; still trying"},
		"itself":          {"10.0.0.1", ""},
		"no port":         {"10.0.0.9:http!", `cannot reach 10.0.0.9:http!: "http!" is not a port; still trying`},
	} {
		t.Run(name, func(t *testing.T) {
			memnet.Bubble(t, func(t *testing.T) {
				n := world(t)
				n.Host("10.0.0.9")
				n.Crash("10.0.0.8", memnet.Blackhole)
				a := start(t, n, "10.0.0.1", client(1), c.join)
				time.Sleep(5 * time.Second)
				if got := a.logs.count(c.says); c.says != "" && got != 1 {
					t.Errorf("said %d times within 5 s: %s", got, a.logs.b.String())
				}
				time.Sleep(10 * time.Minute)
				if got := a.logs.count("still trying"); got > 25 {
					t.Errorf("said %d times within 10 min", got)
				}
				// Somebody comes at last.
				n.Restart("10.0.0.9")
				start(t, n, "10.0.0.9", server(9))
				if name == "nothing listens" {
					await(t, 2*lastRetry, "company", func() bool { return len(a.alive()) == 2 })
				}
			})
		})
	}
}

func TestStoppingDoesNotWaitForTheDead(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		n := world(t)
		n.Crash("10.0.0.8", memnet.Blackhole)
		a := start(t, n, "10.0.0.1", client(1), "10.0.0.8")
		time.Sleep(time.Second)
		begin := time.Now()
		a.stop()
		if took := time.Since(begin); took > time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// TestRealNetwork is on loopback: addresses, a taken port, and garbage on both protocols.
func TestRealNetwork(t *testing.T) {
	open := func(self api.Member, join ...string) (*Pool, func()) {
		p, err := New(Config{Self: self, Bind: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx, join) }()
		return p, func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	a, stopA := open(server(1))
	defer stopA()
	if _, err := New(Config{Self: client(2), Bind: a.Addr()}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a taken port: %v", err)
	}
	for _, garbage := range []string{"", "\x00", "GET / HTTP/1.0\r\n\r\n", "\x06\x83\xa5Nodes\xce\x7f\xff\xff\xff", "\x08\x81\xaaUserMsgLen\xff",
		"\x07\xff\xff\xff", "\x09garbage", "\x0c1234x", "\xf4\x03abc", string(shortVersions(t)), strings.Repeat("\xff", 1400)} {
		for _, network := range []string{"udp", "tcp"} {
			c, err := net.Dial(network, a.Addr())
			if err != nil {
				t.Fatal(err)
			}
			c.Write([]byte(garbage))
			c.Close()
		}
	}
	b, stopB := open(client(2), a.Addr())
	defer stopB()
	for e := range b.Events() {
		if e.Member.ID == "s1" && e.Member.Status == api.MemberAlive && e.Member.GossipAddr == a.Addr() {
			break
		}
	}
	for e := range a.Events() {
		if e.Member.ID == "n2" && e.Member.Status == api.MemberAlive {
			break
		}
	}
	if n, err := b.Join(t.Context(), []string{a.Addr(), "127.0.0.1:1"}); n != 1 || err != nil {
		t.Errorf("joined %d, %v", n, err)
	}
	if _, err := b.Join(t.Context(), []string{"127.0.0.1:1"}); api.CodeOf(err) != api.CodeUnavailable || err.Error() != "cannot reach 127.0.0.1:1: connection refused" {
		t.Errorf("joined nothing: %v", err)
	}
}

func TestBadConfig(t *testing.T) {
	for name, c := range map[string]Config{
		"no ID":         {Self: api.Member{Role: api.RoleServer}, Bind: "127.0.0.1:0"},
		"no role":       {Self: api.Member{ID: "x"}, Bind: "127.0.0.1:0"},
		"no port":       {Self: server(1), Bind: "127.0.0.1"},
		"a name":        {Self: server(1), Bind: "localhost:0"},
		"bad advertise": {Self: server(1), Bind: "127.0.0.1:0", Advertise: "myhost:5557"},
		"too much": {Self: api.Member{Role: api.RoleServer, ID: "x", Datacenter: strings.Repeat("d", 250), Version: strings.Repeat("v", 250),
			HTTPAddr: strings.Repeat("h", 100)}, Bind: "127.0.0.1:0"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := New(c)
			if err == nil {
				p.Close()
				t.Fatal("accepted")
			}
			if code := api.CodeOf(err); code != api.CodeInvalid && code != api.CodeTooLarge {
				t.Errorf("%v (%s)", err, code)
			}
		})
	}
}

var _ memberlist.NodeAwareTransport = (*guard)(nil)
