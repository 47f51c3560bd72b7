package docker

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/registry"
)

// hub is the key under which `docker login` keeps the credentials of Docker Hub.
const hub = "https://index.docker.io/v1/"

// cliConfig is what we read of the docker command's config.json.
type cliConfig struct {
	Auths       map[string]registry.AuthConfig `json:"auths"`
	CredsStore  string                         `json:"credsStore"`
	CredHelpers map[string]string              `json:"credHelpers"`
}

// registryAuth returns the credentials of the image's registry as the engine wants them, from the docker command's
// configuration ($DOCKER_CONFIG or ~/.docker): what `docker login` wrote, or what its credential helper knows. "" is
// none, which is fine for public images; an error says that there should be some.
func registryAuth(ctx context.Context, named reference.Named) (string, error) {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", nil // a service without a home has no login either
		}
		dir = filepath.Join(home, ".docker")
	}
	text, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read Docker's credentials: %w", err)
	}
	var c cliConfig
	if err := json.Unmarshal(text, &c); err != nil {
		return "", fmt.Errorf("read Docker's credentials in %s: %w", dir, err)
	}
	host := reference.Domain(named)
	if host == "docker.io" {
		host = hub
	}
	auth, ok, err := c.credentials(ctx, host)
	if err != nil || !ok {
		return "", err
	}
	return registry.EncodeAuthConfig(auth)
}

func (c *cliConfig) credentials(ctx context.Context, host string) (auth registry.AuthConfig, ok bool, err error) {
	helper := c.CredHelpers[host]
	if helper == "" {
		helper = c.CredsStore
	}
	if helper != "" {
		return fromHelper(ctx, helper, host)
	}
	for _, key := range []string{host, "https://" + host, "http://" + host} {
		if auth, ok = c.Auths[key]; ok {
			break
		}
	}
	if !ok {
		return auth, false, nil
	}
	if auth.Auth != "" {
		plain, err := base64.StdEncoding.DecodeString(auth.Auth)
		if err != nil {
			return auth, false, fmt.Errorf("read the credentials of %s: %w", host, err)
		}
		auth.Username, auth.Password, _ = strings.Cut(strings.TrimRight(string(plain), "\x00"), ":")
		auth.Auth = ""
	}
	auth.ServerAddress = host
	return auth, true, nil
}

// fromHelper asks a credential helper, docker-credential-NAME, by the protocol of docker/docker-credential-helpers.
func fromHelper(ctx context.Context, name, host string) (auth registry.AuthConfig, ok bool, err error) {
	command := exec.CommandContext(ctx, "docker-credential-"+name, "get")
	command.Stdin = strings.NewReader(host)
	out, err := command.Output()
	if err != nil {
		if bytes.Contains(out, []byte("credentials not found")) {
			return auth, false, nil
		}
		return auth, false, fmt.Errorf("ask docker-credential-%s for %s: %w", name, host, err)
	}
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(out, &answer); err != nil {
		return auth, false, fmt.Errorf("read what docker-credential-%s says of %s: %w", name, host, err)
	}
	if answer.Username == "<token>" {
		return registry.AuthConfig{IdentityToken: answer.Secret, ServerAddress: host}, true, nil
	}
	return registry.AuthConfig{Username: answer.Username, Password: answer.Secret, ServerAddress: host}, true, nil
}
