// Command hello is the program of the examples and of the tests: a small HTTP server that can also print, hang, eat
// memory and end as it is told. It is built statically, so that an image of it needs nothing else.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// portVariable is where Cube says on which port the port labelled "http" is expected.
const portVariable = "CUBE_PORT_http"

type options struct {
	listen     string
	exitAfter  time.Duration
	exitCode   int
	health     int
	lines      int
	ignoreTerm bool
	memory     int
	show       bool
	open       string
	print      string
	echo       bool
	size       bool
	get        string
	well       bool
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is main with its surroundings as arguments. The number is the exit code.
func run(args []string, stdin *os.File, stdout, stderr io.Writer) int {
	o := options{}
	f := flag.NewFlagSet("hello", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.listen, "listen", "", "`address` to serve HTTP on; none for not at all; by default the port in "+portVariable+", else :8080")
	f.DurationVar(&o.exitAfter, "exit-after", -1, "end after so long; negative: never")
	f.IntVar(&o.exitCode, "exit-code", 0, "exit code to end with")
	f.IntVar(&o.health, "health", http.StatusOK, "HTTP status to answer /healthz with, until POST /healthz?status= changes it")
	f.IntVar(&o.lines, "lines", 0, "print so many lines to each of stdout and stderr at the beginning")
	f.BoolVar(&o.ignoreTerm, "ignore-term", false, "go on after SIGTERM")
	f.IntVar(&o.memory, "memory", 0, "take so many MiB of memory at SIGUSR1")
	f.BoolVar(&o.show, "show", false, "print arguments, environment, directory and user as one line of JSON")
	f.StringVar(&o.open, "open", "", "open the `file`, such as a device, to read and write, or end with 1")
	f.StringVar(&o.print, "print", "", "print what the `file` holds, or end with 1")
	f.BoolVar(&o.echo, "echo", false, "copy what is read to stdout, and end after the last of it")
	f.BoolVar(&o.size, "size", false, "print the rows and columns of the terminal, again whenever they change, until there is nothing to read")
	f.StringVar(&o.get, "get", "", "print what the `URL` answers, which may take ten seconds to come up, or end with 1")
	f.BoolVar(&o.well, "well", false, "ask the one that serves here whether it is well, and end: with 0 if /healthz answers 200, with 1 otherwise")
	if err := f.Parse(args); err != nil {
		return 2
	}
	if o.well {
		return o.ask(stderr)
	}

	// Subscribed before the first line is printed: whoever has seen output may send a signal.
	signals := make(chan os.Signal, 1)
	if !o.echo {
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1)
	}

	if o.show {
		if err := json.NewEncoder(stdout).Encode(look(f.Args())); err != nil {
			fmt.Fprintf(stderr, "hello: print the surroundings: %v\n", err)
			return 1
		}
	}
	if o.open != "" {
		file, err := os.OpenFile(o.open, os.O_RDWR, 0)
		if err != nil {
			fmt.Fprintf(stderr, "hello: %v\n", err)
			return 1
		}
		defer file.Close()
		fmt.Fprintf(stdout, "opened %s\n", o.open)
	}
	for i := 1; i <= o.lines; i++ {
		fmt.Fprintf(stdout, "out %d\n", i)
		fmt.Fprintf(stderr, "err %d\n", i)
	}
	if err := o.bring(stdout); err != nil {
		fmt.Fprintf(stderr, "hello: %v\n", err)
		return 1
	}
	if o.echo {
		if _, err := io.Copy(stdout, stdin); err != nil {
			fmt.Fprintf(stderr, "hello: %v\n", err)
			return 1
		}
		return o.exitCode
	}
	if o.size {
		return o.watchSize(stdin, stdout, stderr)
	}
	return o.serve(signals, stdout, stderr)
}

// bring prints what is elsewhere: in a file, at a URL.
func (o *options) bring(to io.Writer) error {
	if o.print != "" {
		content, err := os.ReadFile(o.print)
		if err == nil {
			_, err = to.Write(content)
		}
		if err != nil {
			return err
		}
	}
	if o.get == "" {
		return nil
	}
	return fetch(o.get, to)
}

// fetch prints what a URL answers. What asks may have started before what answers.
func fetch(url string, to io.Writer) error {
	for until := time.Now().Add(10 * time.Second); ; {
		answer, err := http.Get(url)
		if err != nil && time.Now().Before(until) {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		_, err = io.Copy(to, answer.Body)
		return err
	}
}

// ask is what an exec check runs: it asks the program at the same address.
func (o *options) ask(stderr io.Writer) int {
	client := http.Client{Timeout: 10 * time.Second}
	answer, err := client.Get("http://" + o.address() + "/healthz")
	if err != nil {
		fmt.Fprintf(stderr, "hello: %v\n", err)
		return 1
	}
	answer.Body.Close() // the status says it all
	if answer.StatusCode != http.StatusOK {
		fmt.Fprintf(stderr, "hello: /healthz answers %s\n", answer.Status)
		return 1
	}
	return 0
}

// watchSize prints how large the terminal is, and ends when nothing more can be read from it.
func (o *options) watchSize(stdin *os.File, stdout, stderr io.Writer) int {
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, syscall.SIGWINCH)
	end := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, stdin)
		end <- err
	}()
	for {
		size, err := unix.IoctlGetWinsize(int(stdin.Fd()), unix.TIOCGWINSZ)
		if err != nil {
			fmt.Fprintf(stderr, "hello: stdin is no terminal: %v\n", err)
			return 1
		}
		fmt.Fprintf(stdout, "%dx%d\n", size.Row, size.Col)
		select {
		case <-changes:
		case err := <-end:
			if err != nil {
				fmt.Fprintf(stderr, "hello: %v\n", err)
				return 1
			}
			return o.exitCode
		}
	}
}

// serve answers until a signal, the time or a request ends it.
func (o *options) serve(signals <-chan os.Signal, stdout, stderr io.Writer) int {
	exit := make(chan int, 1)
	server := &http.Server{Handler: handler(exit, o.health), ReadHeaderTimeout: 10 * time.Second}
	if address := o.address(); address != "none" {
		l, err := net.Listen("tcp", address)
		if err != nil {
			fmt.Fprintf(stderr, "hello: %v\n", err)
			return 1
		}
		fmt.Fprintf(stdout, "listening on %s\n", l.Addr())
		go func() {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				fmt.Fprintf(stderr, "hello: %v\n", err)
				exit <- 1
			}
		}()
	}
	var over <-chan time.Time
	if o.exitAfter >= 0 {
		over = time.After(o.exitAfter)
	}
	for {
		code := o.exitCode
		select {
		case s := <-signals:
			if s == syscall.SIGUSR1 {
				if err := hold(o.memory); err != nil {
					fmt.Fprintf(stderr, "hello: take memory: %v\n", err)
				}
				continue
			}
			if o.ignoreTerm && s == syscall.SIGTERM {
				fmt.Fprintln(stdout, "ignoring terminated")
				continue
			}
			fmt.Fprintf(stdout, "ending: %s\n", s)
		case <-over:
		case code = <-exit:
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			fmt.Fprintf(stderr, "hello: shut down: %v\n", err)
		}
		return code
	}
}

func (o *options) address() string {
	if o.listen != "" {
		return o.listen
	}
	if port := os.Getenv(portVariable); port != "" {
		return ":" + port
	}
	return ":8080"
}

// handler answers / with who it is, /healthz with the status health or the one it was last told, /env with the surroundings as JSON, and /exit?code=N by ending.
func handler(exit chan<- int, health int) http.Handler {
	var status atomic.Int64
	status.Store(int64(health))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		host, err := os.Hostname()
		if err != nil {
			host = "an unknown host"
		}
		fmt.Fprintf(w, "hello from %s on %s\n", name(), host)
		for _, v := range os.Environ() {
			if strings.HasPrefix(v, "CUBE_") {
				fmt.Fprintln(w, v)
			}
		}
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		code := int(status.Load())
		w.WriteHeader(code)
		if code == http.StatusOK {
			fmt.Fprintln(w, "ok")
		} else {
			fmt.Fprintln(w, "told to be ill")
		}
	})
	mux.HandleFunc("POST /healthz", func(w http.ResponseWriter, r *http.Request) {
		code, err := strconv.Atoi(r.FormValue("status"))
		if err != nil || code < 200 || code > 599 {
			http.Error(w, "status is none of HTTP", http.StatusBadRequest)
			return
		}
		status.Store(int64(code))
	})
	mux.HandleFunc("GET /env", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(look(nil)); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("/exit", func(w http.ResponseWriter, r *http.Request) {
		code, err := strconv.Atoi(r.FormValue("code"))
		if err != nil && r.FormValue("code") != "" {
			http.Error(w, "code is not a number", http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "ending with %d\n", code)
		select {
		case exit <- code:
		default: // it is ending already
		}
	})
	return mux
}

// name is what people call this instance, where Cube says so.
func name() string {
	if n := os.Getenv("CUBE_ALLOC_NAME"); n != "" {
		return n
	}
	return "hello"
}

// surroundings is what an instance sees of itself.
type surroundings struct {
	Args []string
	Env  map[string]string
	Dir  string
	UID  int
}

func look(args []string) surroundings {
	s := surroundings{Args: args, Env: map[string]string{}, UID: os.Getuid()}
	for _, v := range os.Environ() {
		k, value, _ := strings.Cut(v, "=")
		s.Env[k] = value
	}
	if dir, err := os.Getwd(); err == nil {
		s.Dir = dir
	}
	return s
}

// hold takes memory for good. The kernel fills it in one call: a program that touches page after page near its limit can
// spend half a minute having its own code thrown out and read again before it is killed.
func hold(mib int) error {
	if mib == 0 {
		return nil
	}
	_, err := unix.Mmap(-1, 0, mib<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_POPULATE)
	return err
}
