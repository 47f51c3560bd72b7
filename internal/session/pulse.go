package session

import (
	"encoding/binary"
	"sync"
	"time"
)

const (
	// silence ends a session: the other side did not answer a ping for so long, with nothing.
	silence = 3 * time.Second
	// minQuiet is how long both sides may have nothing to say before the accepting side pings, unless its Handler.Quiet
	// says more, up to maxQuiet.
	minQuiet = time.Second
	maxQuiet = 15 * time.Second
	// secondLook is how long a side waits on after silence: a process that was itself stopped for a while finds what came
	// meanwhile in the kernel's buffer, and must not take its own sleep for the other's.
	secondLook = 250 * time.Millisecond
	// writeTimeout fails a write that the connection does not take. It is far above silence: a side that hears the other
	// but cannot get rid of a frame is on a slow line.
	writeTimeout = 10 * time.Second
)

// pulse decides whether the other side still lives. Times are since the session began. The accepting side sees to it
// that both sides hear something at least every quiet, and says with each ping what quiet is; the dialling side only
// listens, and is patient for silence more. Either may ask out of turn.
type pulse struct {
	mu      sync.Mutex
	accepts bool // this is the accepting side
	quiet   time.Duration
	waiting bool          // for anything at all after a ping
	asked   time.Duration // when that ping was sent
	looked  bool          // the time is over, and this is the second look
	pings   int           // sent so far
}

// verdict is what a look at the pulse came to.
type verdict int

const (
	isWell    verdict = iota // look again at the time that comes with it
	needsPing                // the same, and send a ping
	isSilent                 // the session is over
)

// look judges by when the other side was last heard and something was last sent to it.
func (p *pulse) look(now, heard, sent time.Duration) (verdict, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting && heard >= p.asked {
		p.waiting, p.looked = false, false
	}
	end := heard + p.quiet + silence
	switch {
	case p.waiting:
		end = p.asked + silence
	case p.accepts:
		due := min(heard, sent) + p.quiet
		if now < due {
			return isWell, due
		}
		p.waiting, p.looked, p.asked = true, false, now
		return needsPing, now + silence
	}
	switch {
	case now < end:
		p.looked = false
		return isWell, end
	case !p.looked:
		p.looked = true
		return isWell, now + secondLook
	}
	return isSilent, 0
}

// ask notes that a ping is sent out of turn. It returns when to look, and false when one is on its way already.
func (p *pulse) ask(now, heard time.Duration) (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting && heard < p.asked {
		return 0, false
	}
	p.waiting, p.looked, p.asked = true, false, now
	return now + silence, true
}

// setQuiet takes what the accepting side says of its pings, within bounds.
func (p *pulse) setQuiet(d time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.quiet = min(max(d, minQuiet), maxQuiet)
	return p.quiet
}

// ping is the frame of one.
func (p *pulse) ping() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pings++
	if !p.accepts {
		return frame(framePing, 0)
	}
	return frame(framePing, 0, binary.BigEndian.AppendUint32(nil, uint32(p.quiet/time.Millisecond)))
}
