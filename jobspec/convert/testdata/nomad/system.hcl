# Converted from system. Comments say what a person has to decide.

job "agent" {
  type = "system"

  task "agent" {
    driver  = "raw_exec"
    command = "/usr/local/bin/agent"
    args    = ["--listen=${CUBE_ADDR_metrics}"]

    port "metrics" {
      static = 9100
    }

    resources {
      # 50 MHz, at 2500 MHz a core
      cpu = 0.02
      # what Nomad gives to a task that does not say
      memory = 300
    }
  }
}
