package memnet

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// Bubble runs f in a testing/synctest bubble, in which time is virtual. It is synctest.Test with two precautions:
//
// Yamux keeps timers in a sync.Pool of its package, and a timer that was made in one bubble must not be used in another;
// two collections empty every sync.Pool. For the same reason tests that use sessions must not run in parallel with a
// bubble.
//
// Memberlist's Shutdown does not wait for probes that are under way. A bubble's time stops when f and the cleanups are
// over, and whoever still waits for it is a failure, so half a minute is granted after the last cleanup. Goroutines that
// wait for anything else still fail the test.
func Bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	emptyPools()
	defer emptyPools()
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { time.Sleep(30 * time.Second) })
		f(t)
	})
}

func emptyPools() {
	runtime.GC()
	runtime.GC()
}
