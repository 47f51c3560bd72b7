package memnet

import (
	"runtime"
	"testing"
	"testing/synctest"
)

// Bubble runs f in a testing/synctest bubble, in which time is virtual.
//
// It is synctest.Test with one precaution: yamux keeps timers in a sync.Pool of its package, and a timer that was made
// in one bubble must not be used in another. Two collections empty every sync.Pool. For the same reason tests that use
// sessions must not run in parallel with a bubble.
func Bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	emptyPools()
	defer emptyPools()
	synctest.Test(t, f)
}

func emptyPools() {
	runtime.GC()
	runtime.GC()
}
