package jobspec

import (
	"bytes"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"cube/api"
)

// Bounds of a text, checked before the HCL parser sees it. The parser recurses with each bracket, template, unary
// operator and conditional, and a stack that overflows ends the process: 70 KB of "(" do it. What passes here recurses a
// few thousand calls at most.
const (
	maxNesting = 64      // brackets, blocks, strings and ${ inside each other
	maxChain   = 64      // operators and accesses in a row, since they nest without a bracket
	maxDigits  = 15      // of a number: what a float64 holds exactly, and far from where big numbers burn time
	maxTokens  = 150_000 // a token costs the lexer about 100 bytes, and the parser several times that
)

// guard refuses a text that could hurt the parser. It reports whether the text may be parsed.
func (p *parser) guard() bool {
	switch {
	case len(p.src) > api.MaxSourceBytes:
		p.src = nil // no message shows a line of it
		p.addf(hcl.Range{Start: hcl.InitialPos}, "the text is over %d bytes, more than a task file may have", api.MaxSourceBytes)
		return false
	case bytes.HasPrefix(p.src, []byte("\xef\xbb\xbf")):
		p.addf(hcl.Range{Start: hcl.InitialPos}, "the text begins with a byte order mark; save it as UTF-8 without one")
		return false
	}
	if i := notText(p.src); i >= 0 {
		what := "a NUL character"
		if p.src[i] != 0 {
			what = "bytes that are not UTF-8"
		}
		p.addf(p.at(i), "the text holds %s", what)
		return false
	}
	if n := tokensAtMost(p.src); n > maxTokens {
		p.addf(hcl.Range{Start: hcl.InitialPos}, "the text has about %d words and signs; a task file has at most %d", n, maxTokens)
		return false
	}
	tokens, _ := hclsyntax.LexConfig(p.src, p.file, hcl.InitialPos) // what it has to say, the parser says again
	return p.guardTokens(tokens)
}

// notText finds the first byte that no text holds, -1 if there is none.
func notText(src []byte) int {
	for i := 0; i < len(src); {
		r, n := utf8.DecodeRune(src[i:])
		if r == 0 || r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// tokensAtMost bounds how many tokens the lexer would make, without making them. A word within a string counts too.
func tokensAtMost(src []byte) int {
	n := 0
	inWord := false
	for _, c := range src {
		word := c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		switch {
		case c == ' ' || c == '\t' || c == '\r' || c >= 0x80 && c < 0xc0: // the last: within a character
		case !word || !inWord:
			n++
		}
		inWord = word
	}
	return n
}

// level is what is open at a place of the text: a bracket, a string, a ${.
type level struct {
	open  hclsyntax.Token
	chain int // operators since the expression began
}

// guardTokens bounds how deep the parser would have to go. Brackets must match: otherwise the parser's idea of the depth
// and ours would differ.
func (p *parser) guardTokens(tokens hclsyntax.Tokens) bool {
	stack := make([]level, 1, maxNesting+1)
	for _, t := range tokens {
		top := &stack[len(stack)-1]
		switch {
		case t.Type == hclsyntax.TokenTemplateControl:
			p.addf(t.Range, "%s is not supported in a task file; write %%%%{ for a literal one", "%{")
			return false
		case opens(t.Type):
			if len(stack) > maxNesting {
				p.addf(t.Range, "brackets, blocks and strings are nested over %d deep", maxNesting)
				return false
			}
			top.chain += chained(t.Type)
			stack = append(stack, level{open: t})
		case closes(t.Type):
			if len(stack) == 1 || closer(top.open.Type) != t.Type {
				p.addf(t.Range, "%s closes nothing that is open here", quoted(t))
				return false
			}
			stack = stack[:len(stack)-1]
		case t.Type == hclsyntax.TokenQuotedNewline:
			p.addf(top.open.Range, "the string is not closed on its line; a longer text is written <<EOT ... EOT")
			return false
		case t.Type == hclsyntax.TokenNumberLit:
			if fault := numberFault(t.Bytes); fault != "" {
				p.addf(t.Range, "a number %s", fault)
				return false
			}
		case t.Type == hclsyntax.TokenComma, endsLine(t) && (len(stack) == 1 || top.open.Type == hclsyntax.TokenOBrace):
			top.chain = 0
		default:
			top.chain += chained(t.Type)
		}
		if top.chain > maxChain {
			p.addf(t.Range, "an expression has over %d operators", maxChain)
			return false
		}
	}
	if open := stack[len(stack)-1].open; len(stack) > 1 && open.Type != hclsyntax.TokenOHeredoc { // the parser explains heredocs
		p.addf(open.Range, "%s is never closed", quoted(open))
		return false
	}
	return true
}

func numberFault(digits []byte) string {
	switch {
	case bytes.ContainsAny(digits, "eE"):
		return "is written without an exponent"
	case len(digits) > maxDigits+1: // a point may be among them
		return "has too many digits"
	}
	return ""
}

func endsLine(t hclsyntax.Token) bool {
	return t.Type == hclsyntax.TokenNewline || t.Type == hclsyntax.TokenComment && bytes.HasSuffix(t.Bytes, []byte("\n"))
}

func opens(t hclsyntax.TokenType) bool { return closer(t) != hclsyntax.TokenNil }

// closer is what closes a token that opens something, TokenNil for any other.
func closer(t hclsyntax.TokenType) hclsyntax.TokenType {
	switch t {
	case hclsyntax.TokenOBrace:
		return hclsyntax.TokenCBrace
	case hclsyntax.TokenOBrack:
		return hclsyntax.TokenCBrack
	case hclsyntax.TokenOParen:
		return hclsyntax.TokenCParen
	case hclsyntax.TokenOQuote:
		return hclsyntax.TokenCQuote
	case hclsyntax.TokenOHeredoc:
		return hclsyntax.TokenCHeredoc
	case hclsyntax.TokenTemplateInterp:
		return hclsyntax.TokenTemplateSeqEnd
	}
	return hclsyntax.TokenNil
}

func closes(t hclsyntax.TokenType) bool {
	switch t {
	case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc,
		hclsyntax.TokenTemplateSeqEnd:
		return true
	}
	return false
}

// chained is 1 for a token that makes the parser, or what evaluates its tree, go one deeper without a bracket.
func chained(t hclsyntax.TokenType) int {
	switch t {
	case hclsyntax.TokenMinus, hclsyntax.TokenBang, hclsyntax.TokenPlus, hclsyntax.TokenStar, hclsyntax.TokenSlash, hclsyntax.TokenPercent,
		hclsyntax.TokenEqualOp, hclsyntax.TokenNotEqual, hclsyntax.TokenLessThan, hclsyntax.TokenLessThanEq, hclsyntax.TokenGreaterThan,
		hclsyntax.TokenGreaterThanEq, hclsyntax.TokenAnd, hclsyntax.TokenOr, hclsyntax.TokenQuestion, hclsyntax.TokenDot,
		hclsyntax.TokenOBrack, hclsyntax.TokenOParen, hclsyntax.TokenDoubleColon:
		return 1
	}
	return 0
}

// quoted shows a token in a message.
func quoted(t hclsyntax.Token) string {
	if t.Type == hclsyntax.TokenOHeredoc || t.Type == hclsyntax.TokenCHeredoc {
		return "the heredoc"
	}
	return visible(string(bytes.TrimSpace(t.Bytes)))
}
