job "agents" {
  type = "system"
  task "agent" {
    image = "cube/hello:1"
    template "conf" {}
  }
}
