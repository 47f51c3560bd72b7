package ci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/tidwall/btree"

	"cube/api"
)

// The reference is work that no change of Cube's changes, of the kinds that Cube does: B-trees, JSON, small messages over
// loopback. What Cube takes is measured in it, so that a slow or busy machine is slow in both.
const (
	treeRows   = 100_000
	jsonRows   = 4_000
	roundTrips = 4_000
	message    = 200 // bytes
)

// reference does the work once and returns the processor time that this process took for it.
func reference() (time.Duration, error) {
	before, err := ownCPU()
	if err != nil {
		return 0, err
	}
	insert()
	if err := errors.Join(encode(), exchange()); err != nil {
		return 0, fmt.Errorf("do the reference work: %w", err)
	}
	after, err := ownCPU()
	return after - before, err
}

func ownCPU() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("read the own processor time: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// insert fills a tree in an order that is neither ascending nor random.
func insert() {
	type row struct{ key, a, b, c, d, e, f, g uint64 }
	t := btree.NewBTreeGOptions(func(a, b row) bool { return a.key < b.key }, btree.Options{NoLocks: true, Degree: 32})
	for i := range uint64(treeRows) {
		t.Set(row{key: i * 0x9e3779b97f4a7c15})
		if i%1000 == 0 {
			t = t.Copy()
		}
	}
}

func encode() error {
	a := api.Allocation{ID: "0123456789abcdef", Name: "web/web[7]", Job: "web", Task: "web", Slot: 7, NodeID: "0123456789abcdef0123456789abcdef",
		Ports: []api.PortBinding{{Label: "http", Host: 20000, To: 80}}, CreatedAt: time.Unix(1_700_000_000, 0).UTC()}
	for range jsonRows {
		b, err := json.Marshal(&a)
		if err != nil {
			return err
		}
		var back api.Allocation
		if err := json.Unmarshal(b, &back); err != nil {
			return err
		}
	}
	return nil
}

func exchange() (err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	served := make(chan error, 1)
	go func() { // ends with the connection, which is waited for
		c, err := l.Accept()
		if err == nil {
			_, err = io.Copy(c, c)
			err = errors.Join(err, c.Close())
		}
		served <- err
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return err
	}
	b := make([]byte, message)
	for range roundTrips {
		if _, err = c.Write(b); err == nil {
			_, err = io.ReadFull(c, b)
		}
		if err != nil {
			break
		}
	}
	return errors.Join(err, c.Close(), <-served)
}
