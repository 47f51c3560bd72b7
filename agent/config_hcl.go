package agent

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"cube/api"
	"cube/client/device"
	"cube/client/volume"
)

// maxConfigBytes bounds a configuration file: ours are a page long.
const maxConfigBytes = 64 << 10

// configFile is the shape of a configuration file. Pointers tell absent from zero, so that a later file overrides an
// earlier one only in what it says.
type configFile struct {
	Name         *string     `hcl:"name"`
	Datacenter   *string     `hcl:"datacenter"`
	DataDir      *string     `hcl:"data_dir"`
	Bind         *string     `hcl:"bind"`
	Advertise    *string     `hcl:"advertise"`
	HTTP         *string     `hcl:"http"`
	InsecureBind *bool       `hcl:"insecure_bind"`
	Join         []string    `hcl:"join,optional"`
	LogLevel     *string     `hcl:"log_level"`
	LogJSON      *bool       `hcl:"log_json"`
	Debug        *bool       `hcl:"debug"`
	Server       *serverFile `hcl:"server,block"`
	Client       *clientFile `hcl:"client,block"`
}

type serverFile struct {
	Enabled         *bool    `hcl:"enabled"`
	BootstrapExpect *int     `hcl:"bootstrap_expect"`
	Scheduler       *string  `hcl:"scheduler"`
	Preempt         []string `hcl:"preempt,optional"`
	RaftMultiplier  *int     `hcl:"raft_multiplier"`
	NodeGrace       *string  `hcl:"node_grace"`
	DisconnectAfter *string  `hcl:"disconnect_after"`

	Rebalance *rebalanceFile `hcl:"rebalance,block"`
}

// rebalanceFile is an api.RebalanceBudget as a file writes it.
type rebalanceFile struct {
	MaxMoves *int     `hcl:"max_moves"`
	Per      *string  `hcl:"per"`
	MinGain  *float64 `hcl:"min_gain"`
}

type clientFile struct {
	Enabled  *bool             `hcl:"enabled"`
	Meta     map[string]string `hcl:"meta,optional"`
	RawExec  *bool             `hcl:"raw_exec"`
	Reserved *reservedFile     `hcl:"reserved,block"`
	Devices  []deviceFile      `hcl:"device,block"`
	Volumes  []volumeFile      `hcl:"volume,block"`
}

// deviceFile is a device.Block as a file writes it.
type deviceFile struct {
	Type       string            `hcl:"type,label"`
	Model      string            `hcl:"model,optional"`
	IDs        []string          `hcl:"ids,optional"`
	Count      int               `hcl:"count,optional"`
	Attributes map[string]string `hcl:"attributes,optional"`
}

// volumeFile is a volume.Block as a file writes it.
type volumeFile struct {
	Name     string `hcl:"name,label"`
	Path     string `hcl:"path"`
	ReadOnly bool   `hcl:"read_only,optional"`
}

type reservedFile struct {
	CPU    float64 `hcl:"cpu,optional"`    // cores
	Memory int64   `hcl:"memory,optional"` // MiB
	Disk   int64   `hcl:"disk,optional"`   // MiB
}

// LoadConfig merges the configuration file at path into c: a file, or every *.hcl file of a directory in the order of
// their names. Unknown keys are errors with their place.
func (c *Config) LoadConfig(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	if !info.IsDir() {
		return c.loadFile(path)
	}
	files, err := filepath.Glob(filepath.Join(path, "*.hcl"))
	if err != nil {
		return fmt.Errorf("list the configuration in %s: %w", path, err)
	}
	sort.Strings(files)
	if len(files) == 0 {
		return fmt.Errorf("%s holds no *.hcl file", path)
	}
	for _, f := range files {
		if err := c.loadFile(f); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) loadFile(path string) error {
	src, err := readConfig(path)
	if err != nil {
		return err
	}
	if err := guardConfig(src, path); err != nil {
		return err
	}
	file, diags := hclsyntax.ParseConfig(src, path, hcl.InitialPos)
	var f configFile
	if !diags.HasErrors() {
		diags = append(diags, gohcl.DecodeBody(file.Body, nil, &f)...)
	}
	if diags.HasErrors() {
		d := diags[0]
		if d.Subject == nil {
			return fmt.Errorf("%s: %s: %s", path, d.Summary, d.Detail)
		}
		return fmt.Errorf("%s:%d:%d: %s: %s", path, d.Subject.Start.Line, d.Subject.Start.Column, d.Summary, d.Detail)
	}
	return c.merge(path, &f)
}

// readConfig reads no more than a configuration has, whatever path is.
func readConfig(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	if len(src) > maxConfigBytes {
		return nil, fmt.Errorf("%s has more than %d bytes, the most a configuration file may have", path, maxConfigBytes)
	}
	return src, nil
}

// guardConfig refuses what would hurt the parser, which recurses with each bracket, or keep it busy, as 1e10000000 does.
// A configuration needs neither: it has no expressions.
func guardConfig(src []byte, path string) error {
	const maxNesting, maxDigits = 16, 15
	tokens, _ := hclsyntax.LexConfig(src, path, hcl.InitialPos) // what it has to say, the parser says again
	depth := 0
	for _, t := range tokens {
		fault := ""
		switch t.Type {
		case hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
			fault = "a configuration has no ${ and no %{: values are written out"
		case hclsyntax.TokenNumberLit:
			if len(t.Bytes) > maxDigits || bytes.ContainsAny(t.Bytes, "eE") {
				fault = fmt.Sprintf("a number has at most %d digits and no exponent", maxDigits)
			}
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen:
			if depth++; depth > maxNesting {
				fault = fmt.Sprintf("brackets and blocks are nested over %d deep", maxNesting)
			}
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen:
			depth = max(0, depth-1) // one too many is the parser's to explain
		}
		if fault != "" {
			return fmt.Errorf("%s:%d:%d: %s", path, t.Range.Start.Line, t.Range.Start.Column, fault)
		}
	}
	return nil
}

func (c *Config) merge(path string, f *configFile) error {
	set(&c.Name, f.Name)
	set(&c.Datacenter, f.Datacenter)
	set(&c.DataDir, f.DataDir)
	set(&c.Bind, f.Bind)
	set(&c.Advertise, f.Advertise)
	set(&c.HTTP, f.HTTP)
	set(&c.InsecureBind, f.InsecureBind)
	set(&c.LogLevel, f.LogLevel)
	set(&c.LogJSON, f.LogJSON)
	set(&c.Debug, f.Debug)
	c.Join = append(c.Join, f.Join...)
	if s := f.Server; s != nil {
		c.Server.Enabled = s.Enabled == nil || *s.Enabled
		set(&c.Server.BootstrapExpect, s.BootstrapExpect)
		set(&c.Server.Scheduler, s.Scheduler)
		for _, t := range s.Preempt {
			c.Server.Preempt = append(c.Server.Preempt, api.JobType(t))
		}
		set(&c.Server.RaftMultiplier, s.RaftMultiplier)
		if err := setDuration(&c.Server.Graces.Node, s.NodeGrace, path, "server.node_grace"); err != nil {
			return err
		}
		if err := setDuration(&c.Server.Graces.Disconnect, s.DisconnectAfter, path, "server.disconnect_after"); err != nil {
			return err
		}
		if r := s.Rebalance; r != nil {
			b := api.DefaultRebalanceBudget()
			b.Per = api.DefaultRebalancePer
			if c.Server.Rebalance != nil {
				b = *c.Server.Rebalance
			}
			set(&b.MaxMoves, r.MaxMoves)
			set(&b.MinGain, r.MinGain)
			if err := setDuration(&b.Per, r.Per, path, "server.rebalance.per"); err != nil {
				return err
			}
			c.Server.Rebalance = &b
		}
	}
	if s := f.Client; s != nil {
		for _, d := range s.Devices {
			c.Client.Devices = append(c.Client.Devices, device.Block(d))
		}
		if _, err := device.Static(c.Client.Devices); err != nil { // with those of earlier files: no two have one ID
			return fmt.Errorf("%s: client: %w", path, err)
		}
		for _, v := range s.Volumes {
			c.Client.Volumes = append(c.Client.Volumes, volume.Block(v))
		}
		if _, err := volume.Static(c.Client.Volumes); err != nil {
			return fmt.Errorf("%s: client: %w", path, err)
		}
		c.Client.Enabled = s.Enabled == nil || *s.Enabled
		set(&c.Client.RawExec, s.RawExec)
		for k, v := range s.Meta {
			if c.Client.Meta == nil {
				c.Client.Meta = map[string]string{}
			}
			c.Client.Meta[k] = v
		}
		if r := s.Reserved; r != nil {
			if r.CPU < 0 || r.Memory < 0 || r.Disk < 0 {
				return fmt.Errorf("%s: client.reserved: an amount is below zero", path)
			}
			c.Client.Reserved = api.Resources{CPU: int64(r.CPU * 1000), Memory: r.Memory, Disk: r.Disk}
		}
	}
	return nil
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func setDuration(to *time.Duration, from *string, path, key string) error {
	if from == nil {
		return nil
	}
	d, err := time.ParseDuration(*from)
	if err != nil || d <= 0 {
		return fmt.Errorf("%s: %s = %q is not a duration such as 30s", path, key, *from)
	}
	*to = d
	return nil
}
