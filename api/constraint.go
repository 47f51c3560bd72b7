package api

// Constraint operators. distinct_hosts takes no attribute: no two instances of the task share a node.
const (
	OpEqual         = "="
	OpNotEqual      = "!="
	OpLess          = "<"
	OpLessEqual     = "<="
	OpGreater       = ">"
	OpGreaterEqual  = ">="
	OpRegexp        = "regexp"
	OpVersion       = "version" // loose versions, e.g. ">= 1.2"
	OpSemver        = "semver"  // strict semantic versions
	OpSetContains   = "set_contains"
	OpIsSet         = "is_set"
	OpDistinctHosts = "distinct_hosts"
)

// Operators lists the constraint operators.
func Operators() []string {
	return []string{OpEqual, OpNotEqual, OpLess, OpLessEqual, OpGreater, OpGreaterEqual, OpRegexp, OpVersion, OpSemver,
		OpSetContains, OpIsSet, OpDistinctHosts}
}

// Constraint is a condition a node must meet. Attribute is one of node.id, node.name, node.datacenter, node.address,
// attr.KEY and meta.KEY (see Node.Attribute), without ${}.
type Constraint struct {
	Attribute string `json:",omitempty"`
	Operator  string
	Value     string `json:",omitempty"`
}

// DefaultWeight is the weight of an affinity or spread that names none: halfway.
const DefaultWeight = 50

// Affinity is a wish: Weight from -100 (avoid) to 100 (prefer), not 0.
type Affinity struct {
	Attribute string
	Operator  string
	Value     string
	Weight    int
}

// Spread asks for a task's instances to be spread evenly over the values of an attribute, or in the shares that Targets
// give (percent; what they leave is shared by the other values). Weight 1 to 100 says how much it counts.
type Spread struct {
	Attribute string
	Weight    int
	Targets   []SpreadTarget `json:",omitempty"`
}

// SpreadTarget is one value's share.
type SpreadTarget struct {
	Value   string
	Percent int
}
