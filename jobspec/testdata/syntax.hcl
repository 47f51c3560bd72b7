task "web" {
  image = "nginx
  count = 2
}
