"""How the page is laid out, a module for each tab. These alone, and the server, know Gradio."""
