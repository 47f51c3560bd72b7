// Package version says which Cube this is.
package version

// Number is this source tree's version. A release is built from a commit whose Number has no suffix.
const Number = "0.1.0-dev"
