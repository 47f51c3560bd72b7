package gossip

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"cube/api"
)

const (
	// firstRetry and lastRetry bound the wait between attempts while the agent is alone; it doubles.
	firstRetry = 500 * time.Millisecond
	lastRetry  = 10 * time.Second
	// rejoinEvery is how often lost servers are looked for. It is longer than memberlist's own attempts to reach the
	// dead, and jittered, so that a thousand clients do not knock at once.
	rejoinEvery = 30 * time.Second
	// lostEvery is how often servers look for servers that were lost: they are few, and wait for each other.
	lostEvery = 5 * time.Second
	// complainEvery is how often an agent that stays alone says so.
	complainEvery = 30 * time.Second
)

// unreached is an address that could not be joined, and why.
type unreached struct {
	addr string
	err  error
}

func (u unreached) String() string { return fmt.Sprintf("cannot reach %s: %s", u.addr, reason(u.err)) }

// Join makes one attempt at each address, all at once, and returns how many answered. A host without a port gets 5557; a
// name stands for all its addresses. The error, CodeUnavailable, is nil if any answered.
func (p *Pool) Join(ctx context.Context, addrs []string) (int, error) {
	targets, failed := resolve(ctx, addrs)
	n, more := p.contact(ctx, targets)
	failed = append(failed, more...)
	if n > 0 || len(failed) == 0 {
		return n, nil
	}
	var b strings.Builder
	for i, f := range failed {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(f.String())
	}
	return 0, api.Errorf(api.CodeUnavailable, "%s", b.String())
}

// stayJoined is the goroutine that keeps the pool together.
func (p *Pool) stayJoined(ctx context.Context, join []string) {
	retry := firstRetry
	complaints := limiter{every: complainEvery}
	wasAlone := true
	for !p.isLeaving() {
		p.table.reap(time.Now())
		reached, failed := p.seek(ctx, join)
		if ctx.Err() != nil {
			return
		}
		alone := p.alone()
		if len(failed) > 0 && (!alone || complaints.allow()) {
			for _, f := range failed {
				if alone {
					p.log.Warn(f.String() + "; still trying")
				} else {
					p.log.Debug(f.String())
				}
			}
		}
		if wasAlone && !alone && reached > 0 {
			p.log.Info("joined the cluster", "members", p.list.NumMembers())
		}
		wasAlone = alone

		wait := rejoinEvery
		switch {
		case alone && len(join) > 0:
			wait = retry
			retry = min(2*retry, lastRetry)
		case p.role == api.RoleServer && p.misses():
			wait, retry = lostEvery, firstRetry
		default:
			retry = firstRetry
		}
		wait = wait/2 + rand.N(wait) // half to one and a half
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// seek contacts the addresses to join and the servers that were lost, as far as no member who answers is there.
func (p *Pool) seek(ctx context.Context, join []string) (int, []unreached) {
	targets, failed := resolve(ctx, join)
	here := map[string]bool{p.addr: true}
	for _, m := range p.Members() {
		switch {
		case m.Status == api.MemberAlive:
			here[m.GossipAddr] = true
		case m.Status == api.MemberFailed && m.Role == api.RoleServer:
			targets = append(targets, m.GossipAddr)
		}
	}
	slices.Sort(targets)
	targets = slices.DeleteFunc(slices.Compact(targets), func(t string) bool { return here[t] })
	n, more := p.contact(ctx, targets)
	return n, append(failed, more...)
}

// misses reports whether a server has failed and not come back.
func (p *Pool) misses() bool {
	return slices.ContainsFunc(p.Members(), func(m api.Member) bool {
		return m.Role == api.RoleServer && m.Status == api.MemberFailed
	})
}

func (p *Pool) alone() bool { return p.list.NumMembers() <= 1 }

// contact exchanges state with the agents at some addresses, and counts those that answered. It returns when ctx ends;
// what is still under way then ends by itself within streamTimeout, and Close waits for it.
func (p *Pool) contact(ctx context.Context, targets []string) (reached int, failed []unreached) {
	results := make(chan unreached, len(targets))
	for _, t := range targets {
		p.joins.Add(1)
		go func() {
			defer p.joins.Done()
			var err error
			if t == p.addr {
				err = errors.New("that is this agent itself")
			} else {
				_, err = p.list.Join([]string{t})
			}
			results <- unreached{t, err}
		}()
	}
	for range targets {
		select {
		case r := <-results:
			if r.err != nil {
				failed = append(failed, r)
			} else {
				reached++
			}
		case <-ctx.Done():
			return reached, append(failed, unreached{strings.Join(targets, ", "), context.Cause(ctx)})
		}
	}
	slices.SortFunc(failed, func(a, b unreached) int { return strings.Compare(a.addr, b.addr) })
	return reached, failed
}

// resolve turns what people write into IP addresses with ports.
func resolve(ctx context.Context, addrs []string) (targets []string, failed []unreached) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	for _, a := range addrs {
		host, port := splitPort(a)
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			failed = append(failed, unreached{a, fmt.Errorf("%q is not a port", port)})
			continue
		}
		if ip, err := netip.ParseAddr(host); err == nil {
			targets = append(targets, net.JoinHostPort(ip.String(), port))
			continue
		}
		ips, err := net.DefaultResolver.LookupHost(ctx, host)
		if err != nil {
			failed = append(failed, unreached{a, err})
			continue
		}
		for _, ip := range ips {
			targets = append(targets, net.JoinHostPort(ip, port))
		}
	}
	slices.Sort(targets)
	return slices.Compact(targets), failed
}

// splitPort takes "host", "host:port", "1:2::3" and "[1:2::3]:port".
func splitPort(a string) (host, port string) {
	if h, p, err := net.SplitHostPort(a); err == nil {
		return h, p
	}
	return strings.Trim(a, "[]"), strconv.Itoa(DefaultPort)
}

// reason is the innermost sentence of an error: memberlist and net put every layer's before it, and the address is
// known.
func reason(err error) string {
	s := strings.TrimSpace(err.Error())
	if i := strings.LastIndex(s, ": "); i >= 0 {
		s = s[i+2:]
	}
	return s
}
