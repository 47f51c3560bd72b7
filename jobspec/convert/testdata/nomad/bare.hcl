# Converted from bare. Comments say what a person has to decide.

job "bare" {
  task "one" {
    image = "one:1"

    env {
      A = 1
      B = true
    }

    resources {
      # what Nomad gives to a task that does not say
      memory = 300
    }
  }
}
