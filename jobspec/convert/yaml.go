package convert

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"

	"cube/api"
)

// tree is a value of a YAML text with aliases and merge keys resolved.
type tree struct {
	kind    yaml.Kind // ScalarNode, SequenceNode or MappingNode
	text    string    // of a scalar
	tag     string    // of a scalar: !!str, !!int, !!bool, !!null ...
	items   []*tree
	entries []entry
	line    int
}

// entry is a key of a mapping with its value.
type entry struct {
	key   string
	line  int
	value *tree
}

// readYAML reads the first document of a text, and returns the line of a second one, 0 if there is none. Aliases are followed as
// long as the result stays within maxNodes: a few lines of them can stand for billions of values.
func readYAML(src []byte, fileName string) (t *tree, second int, err error) {
	if len(src) > api.MaxSourceBytes {
		return nil, 0, api.Errorf(api.CodeInvalid, "%s: the text is over %d bytes", fileName, api.MaxSourceBytes)
	}
	documents := yaml.NewDecoder(bytes.NewReader(src))
	var first, next yaml.Node
	err = documents.Decode(&first)
	if err == io.EOF || err == nil && len(first.Content) == 0 {
		return nil, 0, api.Errorf(api.CodeInvalid, "%s: the text is empty", fileName)
	}
	if err == nil {
		if err = documents.Decode(&next); err == nil && !empty(&next) {
			second = next.Line
		}
	}
	if err != nil && err != io.EOF {
		return nil, 0, api.Errorf(api.CodeInvalid, "%s: %s", fileName, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	r := &yamlReader{left: maxNodes}
	if t, err = r.read(first.Content[0], 0); err != nil {
		return nil, 0, api.Errorf(api.CodeInvalid, "%s: %w", fileName, err)
	}
	return t, second, nil
}

// empty reports whether a document holds nothing, as one does that ends with ---.
func empty(document *yaml.Node) bool {
	return len(document.Content) == 0 || document.Content[0].ShortTag() == "!!null"
}

type yamlReader struct {
	left int // values that may still be made
}

func (r *yamlReader) read(n *yaml.Node, depth int) (*tree, error) {
	for n.Kind == yaml.AliasNode { // an alias of an alias cannot be written, but costs nothing to follow
		n = n.Alias
	}
	if r.left--; r.left < 0 {
		return nil, fmt.Errorf("line %d: the file has over %d values, those that aliases repeat included", n.Line, maxNodes)
	}
	if depth > maxDepth {
		return nil, fmt.Errorf("line %d: values are nested over %d deep", n.Line, maxDepth)
	}
	t := &tree{kind: n.Kind, line: n.Line}
	switch n.Kind {
	case yaml.ScalarNode:
		t.text, t.tag = n.Value, n.ShortTag()
	case yaml.SequenceNode:
		for _, c := range n.Content {
			item, err := r.read(c, depth+1)
			if err != nil {
				return nil, err
			}
			t.items = append(t.items, item)
		}
	case yaml.MappingNode:
		return t, r.readMapping(t, n, depth)
	default:
		return nil, fmt.Errorf("line %d: this is no value", n.Line)
	}
	return t, nil
}

// readMapping reads keys and values. What << brings in gives way to the mapping's own keys, wherever they stand.
func (r *yamlReader) readMapping(t *tree, n *yaml.Node, depth int) error {
	var merged []*tree
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		value, err := r.read(n.Content[i+1], depth+1)
		switch {
		case err != nil:
			return err
		case key.Kind == yaml.ScalarNode && key.ShortTag() == "!!merge":
			merged = append(merged, value)
		case key.Kind != yaml.ScalarNode:
			return fmt.Errorf("line %d: a key must be a text", key.Line)
		case t.get(key.Value) != nil:
			return fmt.Errorf("line %d: key %.80q is there already, at line %d", key.Line, key.Value, t.get(key.Value).line)
		default:
			t.entries = append(t.entries, entry{key.Value, key.Line, value})
		}
	}
	for _, m := range merged {
		sources := []*tree{m}
		if m.kind == yaml.SequenceNode {
			sources = m.items
		}
		for _, source := range sources {
			if source.kind != yaml.MappingNode {
				return fmt.Errorf("line %d: << takes a mapping or a list of them", n.Line)
			}
			for _, e := range source.entries {
				if t.get(e.key) == nil {
					t.entries = append(t.entries, e)
				}
			}
		}
	}
	return nil
}

// get returns the value of a key, nil if there is none.
func (t *tree) get(key string) *tree {
	if t == nil {
		return nil
	}
	for _, e := range t.entries {
		if e.key == key {
			return e.value
		}
	}
	return nil
}

func (t *tree) isNull() bool { return t.kind == yaml.ScalarNode && t.tag == "!!null" }

func (t *tree) isScalar() bool { return t.kind == yaml.ScalarNode && t.tag != "!!null" }

func (t *tree) isList() bool { return t.kind == yaml.SequenceNode }

func (t *tree) isMap() bool { return t.kind == yaml.MappingNode }

// scalars walks over all texts below.
func (t *tree) scalars(visit func(*tree)) {
	if t.kind == yaml.ScalarNode {
		visit(t)
	}
	for _, i := range t.items {
		i.scalars(visit)
	}
	for _, e := range t.entries {
		e.value.scalars(visit)
	}
}
