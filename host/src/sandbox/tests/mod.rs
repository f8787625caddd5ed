mod wat;
