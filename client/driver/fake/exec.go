package fake

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"cube/api"
	"cube/client/driver"
)

// Exec interprets a command in memory. It knows these, and several of them in a row with ";" between:
//
//	echo WORD...   writes them to stdout
//	warn WORD...   writes them to stderr
//	env            writes the request's environment to stdout
//	cat            copies its input to stdout
//	size           writes the size of its terminal, again whenever it changes, until its input ends
//	sleep TIME     waits, such as 1m
//	exit CODE      ends
func (d *Driver) Exec(ctx context.Context, h driver.Handle, r *driver.ExecRequest) (int, error) {
	defer func() {
		if r.Stdin != nil {
			r.Stdin.Close()
		}
	}()
	if err := d.pass(ctx, "exec", h.Key); err != nil {
		return -1, err
	}
	d.engine.mu.Lock()
	i := d.find(h)
	if i == nil || i.exit != nil {
		d.engine.mu.Unlock()
		return -1, api.Errorf(api.CodeConflict, "instance %s does not run", h.Data)
	}
	gone := i.wait()
	d.engine.mu.Unlock()

	p := &program{r: r, ended: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.code, p.err = p.run()
	}()
	code, err := p.watch(ctx, gone, done)
	if r.Stdin != nil {
		r.Stdin.Close()
	}
	close(p.ended)
	<-done
	if err != nil || code >= 0 {
		return code, err
	}
	return p.code, p.err
}

// program is a command that is being interpreted.
type program struct {
	r     *driver.ExecRequest
	ended chan struct{} // closed when it must end

	code int // of run
	err  error
}

// watch waits for the end of the command, or what ends it; code is below 0 when that was the command itself.
func (p *program) watch(ctx context.Context, gone, done <-chan struct{}) (code int, err error) {
	for {
		select {
		case <-done:
			return -1, nil
		case <-ctx.Done():
			return -1, ctx.Err()
		case <-gone:
			return killed().Code, nil
		case s, ok := <-p.r.Signals:
			if !ok {
				p.r.Signals = nil
				continue
			}
			return 128 + int(s), nil
		}
	}
}

// run runs all commands. An exit code ends it, and one that is not 0 of the last is the answer.
func (p *program) run() (int, error) {
	for words := p.r.Command; len(words) > 0; {
		one, rest := words, []string(nil)
		if i := slices.Index(words, ";"); i >= 0 {
			one, rest = words[:i], words[i+1:]
		}
		if len(one) > 0 {
			code, over, err := p.one(one[0], one[1:])
			if err != nil || over {
				return code, err
			}
		}
		words = rest
	}
	return 0, nil
}

func (p *program) one(name string, args []string) (code int, over bool, err error) {
	switch name {
	case "echo":
		err = p.write(p.r.Stdout, strings.Join(args, " "))
	case "warn":
		to := p.r.Stderr
		if p.r.TTY {
			to = p.r.Stdout
		}
		err = p.write(to, strings.Join(args, " "))
	case "env":
		for _, k := range slices.Sorted(maps.Keys(p.r.Env)) {
			err = p.write(p.r.Stdout, k+"="+p.r.Env[k])
		}
	case "cat":
		err = p.cat()
	case "size":
		err = p.size()
	case "sleep":
		err = p.sleep(args)
	case "exit":
		code, err = strconv.Atoi(strings.Join(args, " "))
		over = true
	default:
		return driver.ExecNotFound, true, api.Errorf(api.CodeInvalid, "the instance has no command %s", name)
	}
	if err != nil {
		code = -1
	}
	return code, over, err
}

func (p *program) write(to io.Writer, line string) error {
	if to == nil {
		return nil
	}
	if p.r.TTY {
		line += "\r"
	}
	_, err := fmt.Fprintln(to, line)
	return err
}

func (p *program) cat() error {
	if p.r.Stdin == nil {
		return nil
	}
	to := p.r.Stdout
	if to == nil {
		to = io.Discard
	}
	_, err := io.Copy(to, p.r.Stdin)
	return err
}

// size writes what size the terminal has until the input ends.
func (p *program) size() error {
	input := make(chan struct{})
	if p.r.Stdin == nil {
		close(input)
	} else {
		go func() {
			defer close(input)
			_, _ = io.Copy(io.Discard, p.r.Stdin) // any end will do
		}()
		defer func() { p.r.Stdin.Close(); <-input }()
	}
	size := p.r.Size
	for changes := p.r.Resize; ; {
		if err := p.write(p.r.Stdout, fmt.Sprintf("%dx%d", size.Rows, size.Columns)); err != nil {
			return err
		}
		var ok bool
		select {
		case size, ok = <-changes:
			if !ok {
				changes = nil
			}
		case <-input:
			return nil
		case <-p.ended:
			return nil
		}
	}
}

func (p *program) sleep(args []string) error {
	d, err := time.ParseDuration(strings.Join(args, " "))
	if err != nil {
		return err
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.ended:
	}
	return nil
}
