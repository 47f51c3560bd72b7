package fleet

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"runtime/pprof"
	"strings"
	"syscall"

	"cube/api"
)

// Config is what a fleet process holds.
type Config struct {
	Servers []string      // RPC addresses; each node chooses among them as clients do
	Nodes   int           // how many
	First   int           // the number of the first one: several fleets may share a cluster
	Classes int           // into how many classes the nodes are divided, by meta.class
	Node    api.Resources // what each has
}

// Stats is what a fleet says of itself.
type Stats struct {
	Nodes      int   // that work
	Goroutines int   // of the process
	Bytes      int64 // heap and stacks in use, after a collection
	Instances  int   // that the nodes' engines hold
	Running    int   // of them
}

// The words that a fleet process understands: one a line, with what follows it. Each is answered with one line of JSON.
const (
	askStats     = "stats"     // Stats
	askLive      = "live"      // a number of bytes
	askProfile   = "profile "  // and a path: a CPU profile begins; {}
	askProfiled  = "profiled " // and a path: it ends, and a heap profile is written; {}
	reserveFiles = 256         // descriptors beside the sessions: the runtime's, the log, the pipes
)

// Serve is the fleet process: it reads its Config from the first line of in, starts the nodes, and then answers on out until
// in ends or ctx is done. The nodes then end without a word to the servers, as machines do whose power is cut.
func Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() {
		return fmt.Errorf("read what the fleet is to be: %w", errors.Join(lines.Err(), io.ErrUnexpectedEOF))
	}
	if os.Getenv("GOGC") == "" {
		// One process is thousands of machines: its collector slows all of them for the same second, which no cluster does. So it
		// works seldom.
		defer debug.SetGCPercent(debug.SetGCPercent(400))
	}
	n := &nodes{}
	if err := json.Unmarshal(lines.Bytes(), &n.cfg); err != nil {
		return fmt.Errorf("read what the fleet is to be: %w", err)
	}
	if err := raiseFiles(n.cfg.Nodes+reserveFiles, syscall.Getrlimit, syscall.Setrlimit); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := n.start(ctx); err != nil {
		cancel()
		return errors.Join(err, n.wait())
	}
	asked := make(chan string)
	go func() { // ends with in, or with ctx
		defer close(asked)
		for lines.Scan() {
			select {
			case asked <- lines.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	err := n.answer(ctx, asked, json.NewEncoder(out))
	cancel()
	return errors.Join(err, n.wait())
}

// answer answers what is asked until nobody asks any more.
func (n *nodes) answer(ctx context.Context, asked <-chan string, out *json.Encoder) error {
	var p profile
	defer p.stop()
	for {
		var text string
		select {
		case <-ctx.Done():
			return nil
		case t, ok := <-asked:
			if !ok {
				return nil
			}
			text = t
		}
		var reply any = struct{}{}
		var err error
		if path, ok := strings.CutPrefix(text, askProfile); ok {
			err = p.start(path)
		} else if path, ok := strings.CutPrefix(text, askProfiled); ok {
			err = errors.Join(p.stop(), heapProfile(path))
		} else if text == askStats {
			reply = n.stats()
		} else if text == askLive {
			reply = live()
		} else {
			err = fmt.Errorf("nobody here understands %.80q", text)
		}
		if err != nil {
			return err
		}
		if err := out.Encode(reply); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
}

func (n *nodes) stats() Stats {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s := Stats{Nodes: n.cfg.Nodes - int(n.left.Load()), Goroutines: runtime.NumGoroutine(), Bytes: int64(m.HeapAlloc + m.StackInuse)}
	s.Instances, s.Running = n.count()
	return s
}

// live is the memory that the last collection found in use.
func live() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// raiseFiles makes sure that the process may open so many files.
func raiseFiles(need int, get func(int, *syscall.Rlimit) error, set func(int, *syscall.Rlimit) error) error {
	var limit syscall.Rlimit
	if err := get(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	if limit.Cur >= uint64(need) {
		return nil
	}
	raised := syscall.Rlimit{Cur: uint64(need), Max: max(limit.Max, uint64(need))}
	if err := set(syscall.RLIMIT_NOFILE, &raised); err != nil {
		return fmt.Errorf("so many nodes need %d open files and at most %d are allowed: raise the limit (ulimit -n %d) or take fewer -nodes: %w",
			need, limit.Max, need, err)
	}
	return nil
}

// profile is a CPU profile that is being taken, if any.
type profile struct{ file *os.File }

func (p *profile) start(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("make a profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return errors.Join(fmt.Errorf("make a profile: %w", err), f.Close())
	}
	p.file = f
	return nil
}

func (p *profile) stop() error {
	if p.file == nil {
		return nil
	}
	pprof.StopCPUProfile()
	err := p.file.Close()
	p.file = nil
	return err
}

func heapProfile(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("make a profile: %w", err)
	}
	return errors.Join(pprof.Lookup("heap").WriteTo(f, 0), f.Close())
}
