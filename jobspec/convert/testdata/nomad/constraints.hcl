# Converted from constraints. Comments say what a person has to decide.

job "placed" {
  task "t" {
    image = "t:1"

    resources {
      # what Nomad gives to a task that does not say
      memory = 300
    }

    constraint {
      attribute = "attr.kernel.version"
      operator  = "version"
      value     = ">= 5.10"
    }

    constraint {
      attribute = "attr.os.name"
      operator  = "regexp"
      value     = "^(debian|ubuntu)$"
    }

    constraint {
      distinct_hosts = true
    }

    constraint {
      attribute = "attr.cpu.cores"
      operator  = ">="
      value     = 4
    }

    constraint {
      attribute = "meta.features"
      operator  = "set_contains"
      value     = "ssd,avx2"
    }

    affinity {
      attribute = "meta.ssd"
      value     = "true"
      weight    = -100
    }
  }
}
